"""Checkpoint size, time to the first checkpoint and time to resume, beside S3PRL's own loop with -f.

    python recipes/bench/checkpoints.py --data DATA

On a Base-shaped backbone with random weights. Each run is a process of its own: the first trains one step and saves,
the second resumes from there, trains another and saves. Seconds are from the start of the process to its checkpoint.
"""

from __future__ import annotations

import csv
import json
import os
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
STEPS = {"total_steps": 1, "save_step": 1, "eval_step": 1000, "log_step": 1000, "gradient_accumulate_steps": 1}


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder with the corpora.")
@click.option("--task", default="elp_ic", show_default=True)
@click.option("--size", default="base", show_default=True, help="mini, base or large.")
@click.option("--out", default=Path("result/bench/checkpoints"), type=click.Path(path_type=Path), show_default=True)
def main(data: Path, task: str, size: str, out: Path) -> None:
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.shape import size_options

    out.mkdir(parents=True)  # its runs must be new ones
    backbone = write_backbone(out / "backbone.pt", family="wavlm", **size_options(size, "wavlm"))
    rows = []
    for name, upstream in RUNS.items():
        expdir = out / name.replace(" ", "")
        first = ["-k", str(backbone), *upstream, "-d", task, "-p", str(expdir), "-o", _override(STEPS)]
        began = _seconds([*first, "--data", str(data)], expdir / "states-1.ckpt")
        size_now = (expdir / "states-1.ckpt").stat().st_size
        more = ["-e", str(expdir), "-o", "config.runner.total_steps=2", "--data", str(data)]
        more += ["--stock-loop"] if "--stock-loop" in upstream else []
        resumed = _seconds(more, expdir / "states-2.ckpt")
        rows.append({"run": name, "MB": size_now / 1e6, "first s": began, "resumed s": resumed})
        for path in expdir.glob("*.ckpt"):
            path.unlink()
    backbone.unlink()
    table = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".1f")
    click.echo(table)
    (out / "checkpoints.md").write_text(table + "\n")
    (out / "checkpoints.json").write_text(json.dumps(rows, indent=2))
    with (out / "checkpoints.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _override(values: dict[str, int]) -> str:
    words = [f"config.runner.{key}={value}" for key, value in values.items()]
    return ",,".join([*words, "config.downstream_expert.datarc.num_workers=0"])


def _seconds(flags: list[str], checkpoint: Path) -> float:
    """From the start of a training process to its checkpoint."""
    began = time.time()
    command = [sys.executable, "-m", "upstream_elp.run", "-m", "train", *flags, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode or not checkpoint.exists():
        raise click.ClickException(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return checkpoint.stat().st_mtime - began


if __name__ == "__main__":
    main()
