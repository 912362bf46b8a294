"""One run in its own process: train, then evaluate the best checkpoint on test; ``results.json`` records both.

Called as ``python -m upstream_elp.quickstart.job JOB.json``, so that S3PRL is imported once for both.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from upstream_elp.base.errors import ElpError
from upstream_elp.quickstart.jobs import Job


def main(spec: str) -> None:
    """Run the job described in the file ``spec``."""
    from upstream_elp.experiment.checkpoint import find_checkpoint
    from upstream_elp.launch.start import run

    job = Job(**json.loads(Path(spec).read_text(encoding="utf-8")))
    run(job.train_argv)
    run(job.test_argv(find_checkpoint(job.folder)))
    if job.tested() is None:
        raise ElpError(f"{job.results} has no evaluation of the test set; run the quickstart again")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        main(sys.argv[1])
    except ElpError as error:
        sys.exit(f"error: {error}")
