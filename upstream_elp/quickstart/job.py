"""One run in its own process: train, evaluate the best checkpoint on test, write ``result.json``.

Called as ``python -m upstream_elp.quickstart.job JOB.json``, so that S3PRL is imported once for both.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file
from upstream_elp.quickstart.jobs import TASKS, Job


def main(spec: str) -> None:
    """Run the job described in the file ``spec``."""
    job = Job(**json.loads(Path(spec).read_text(encoding="utf-8")))
    result = run_job(job)
    with whole_file(job.result, encoding="utf-8") as file:
        json.dump(result, file, indent=2)


def run_job(job: Job) -> dict[str, Any]:
    """Train and evaluate; returns what the report needs."""
    import torch

    from upstream_elp.experiment.checkpoint import find_checkpoint, load_checkpoint
    from upstream_elp.experiment.layer_weights import count_models, layer_weights, layers
    from upstream_elp.launch.start import run

    resumed = any(Path(job.folder).glob("states-*.ckpt"))
    started = time.perf_counter()
    run(job.train_argv)
    trained = time.perf_counter()
    path = find_checkpoint(job.folder)
    run(job.test_argv(path))
    tested = time.perf_counter()
    checkpoint = load_checkpoint(path)
    test = _last_line(Path(job.folder) / "metrics.jsonl", TASKS[job.task].test)
    return {
        "settings": job.settings(),
        "task": job.task,
        "method": job.method,
        "metric": TASKS[job.task].metric,
        "test": test["metrics"],
        "chance": test["chance"],
        "items": test["items"],
        "selected": path.name,
        "best_step": checkpoint.step,
        "trainable": count_models(checkpoint),
        "layer_weights": layer_weights(checkpoint),
        "layers": layers(checkpoint),
        "seconds": {"train": round(trained - started, 1), "test": round(tested - trained, 1), "resumed": resumed},
        "machine": {
            "device": torch.cuda.get_device_name() if job.device.startswith("cuda") else platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }


def _last_line(path: Path, split: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line["split"] == split]
    if not found:
        raise ElpError(f"{path} holds no evaluation of {split}")
    return found[-1]


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        main(sys.argv[1])
    except ElpError as error:
        sys.exit(f"error: {error}")
