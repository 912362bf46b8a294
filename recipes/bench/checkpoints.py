"""Checkpoint size, time to the first checkpoint and time to resume, compared to S3PRL's own loop with -f.

    python recipes/bench/checkpoints.py --data DATA

The backbone is Base-shaped with random weights. Each run is a separate process: the first trains one step and saves;
the second resumes from there, trains another step and saves. Seconds are measured from the start of the process to its
checkpoint; processor seconds are those of the whole process, including the report. Figures are medians over the rounds,
in which the runs take turns.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
from tabulate import tabulate

RUNS = {
    "S3PRL -f": ["-u", "wavlm_local", "-f", "--stock-loop"],
    "full_finetune": ["-u", "elp_local", "-g", "full_finetune"],
    "le": ["-u", "elp_local", "-g", "le"],
    "elp": ["-u", "elp_local", "-g", "elp"],
    "lora_qv8": ["-u", "elp_local", "-g", "lora_qv8"],
    "weighted_sum": ["-u", "elp_local", "-g", "weighted_sum"],
}
COLUMNS = ("MB", "first s", "first CPU s", "resumed s", "resumed CPU s")
STEPS = {"total_steps": 1, "save_step": 1, "eval_step": 1000, "log_step": 1000, "gradient_accumulate_steps": 1}


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder with the corpora.")
@click.option("--task", default="elp_ic", show_default=True, help="elp_ic, elp_er or elp_sv.")
@click.option("--size", default="base", show_default=True, help="mini, base or large.")
@click.option("--rounds", default=3, show_default=True, help="Number of times to make every run.")
@click.option("--out", default=Path("result/bench/checkpoints"), type=click.Path(path_type=Path), show_default=True)
def main(data: Path, task: str, size: str, rounds: int, out: Path) -> None:
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options

    out.mkdir(parents=True)  # its runs must be new
    backbone = write_backbone(out / "backbone.pt", family="wavlm", **size_options(size, "wavlm"))
    measured: dict[str, list[tuple[float, ...]]] = {name: [] for name in RUNS}
    order = [name for _ in range(rounds) for name in RUNS]  # in turns: the machine's speed drifts
    with click.progressbar(order, label="runs", item_show_func=str, file=sys.stderr) as bar:
        for name in bar:
            measured[name].append(_run(name, backbone, data, task, out / "exp"))
    backbone.unlink()
    rows = [
        {"run": name, **dict(zip(COLUMNS, map(statistics.median, zip(*runs, strict=True)), strict=True))}
        for name, runs in measured.items()
    ]
    table = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".1f")
    click.echo(table)
    (out / "checkpoints.md").write_text(table + "\n")
    (out / "checkpoints.json").write_text(json.dumps({"medians": rows, "runs": measured}, indent=2))
    with (out / "checkpoints.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _run(name: str, backbone: Path, data: Path, task: str, expdir: Path) -> tuple[float, ...]:
    """Train a step and save, then resume for another; return the values of :data:`COLUMNS`."""
    shared = ["--data", str(data), *(["--stock-loop"] if "--stock-loop" in RUNS[name] else [])]
    flags = ["-k", str(backbone), *RUNS[name], "-d", task, "-p", str(expdir), "-o", _override(STEPS)]
    first = _seconds([*flags, *shared], expdir / "states-1.ckpt")
    size = (expdir / "states-1.ckpt").stat().st_size / 1e6
    resumed = _seconds(["-e", str(expdir), "-o", "config.runner.total_steps=2", *shared], expdir / "states-2.ckpt")
    shutil.rmtree(expdir)
    return size, *first, *resumed


def _override(values: dict[str, int]) -> str:
    words = [f"config.runner.{key}={value}" for key, value in values.items()]
    data = {"num_workers": 0, "train_batch_size": 2}  # so that a step is short compared to the start
    return ",,".join([*words, *(f"config.downstream_expert.datarc.{key}={value}" for key, value in data.items())])


def _seconds(flags: list[str], checkpoint: Path) -> tuple[float, float]:
    """Elapsed seconds from the start of a training to its checkpoint, and processor seconds of the whole process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    command = [sys.executable, "-m", "upstream_elp.run", "-m", "train", *flags, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode or not checkpoint.exists():
        raise click.ClickException(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return checkpoint.stat().st_mtime - began, used


if __name__ == "__main__":
    main()
