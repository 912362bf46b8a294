"""One of several processes that train a job together.

torchrun starts it as ``python -m upstream_elp.sweep.rank FOLDER FLAGS``. What its parent has to know, it leaves in the
job's folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from upstream_elp.base.console import errors_in_one_line
from upstream_elp.base.errors import DivergedError, caused_by, one_line
from upstream_elp.base.files import write_json
from upstream_elp.base.ranks import ranks
from upstream_elp.sweep import locks, memory
from upstream_elp.sweep.parent import end_with_parent

REPORTS = "rank*.json"


def main(folder: Path, argv: Sequence[str]) -> None:
    """Train, and report the memory that it took and why it failed, if it did.

    Args:
        folder: the job's folder.
        argv: flags of ``elp run``.
    """
    from upstream_elp.launch.start import adopt_main, run
    from upstream_elp.training.stop import EndedElsewhere

    number = ranks().rank
    with locks.held_by_rank(folder, number):
        found: dict[str, object] = {}
        adopt_main()
        try:
            run(argv)
        except Exception as error:
            found = {
                "why": one_line(error),
                "diverged": caused_by(error, DivergedError),
                "elsewhere": caused_by(error, EndedElsewhere),
            }
            raise
        finally:
            write_json(folder / f"rank{number}.json", {**found, "memory": memory.peaks()})


if __name__ == "__main__":
    end_with_parent()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with errors_in_one_line():
        main(Path(sys.argv[1]), sys.argv[2:])
