"""Compare frozen backbones on mini-SUPERB: a weighted sum of the states under the packaged quick heads.

    elp mini-superb DATA --size small
    python recipes/pretrain/evaluate.py DATA RUN/backbone-*.pt --out evaluation.json

The rows `fbank` and `random` are always there. Only dev sets are read, so that a checkpoint can be chosen; `--test`
adds the test sets, for the checkpoint that was chosen. Learning rates are chosen on dev, for every row from the same
values. Results that are in the file already are not computed again.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from model import FAMILIES, SHAPES
from probe_data import TASKS, all_features, feature_of, read_items, settings_of
from probes import HIGHER, METRICS, RATES, STEPS, Answers, probe
from tabulate import tabulate

import upstream_elp
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, write_json


def evaluate(task: str, data: dict[str, Any], *, steps: int, seeds: int) -> dict[str, Any]:
    """Choose a learning rate on dev with one seed, and return the results of all seeds with their standard errors."""
    higher = HIGHER[METRICS[task]]
    first = {rate: probe(task, data, rate=rate, steps=steps, seed=0) for rate in RATES[task]}
    rate = (max if higher else min)(first, key=lambda each: first[each]["dev"].value())
    runs = [first[rate], *(probe(task, data, rate=rate, steps=steps, seed=seed) for seed in range(1, seeds))]
    return {"rate": rate, **{split: summary([run[split] for run in runs]) for split in runs[0]}}


def summary(runs: list[Answers]) -> dict[str, Any]:
    """Return the value of each seed, their mean, and its standard error over speakers (the same ones for all seeds)."""
    values = [run.value() for run in runs]
    drawn = np.mean([run.resampled() for run in runs], axis=0)
    return {
        "seeds": [round(v, 2) for v in values],
        "mean": float(np.mean(values)),
        "error": float(np.nanstd(drawn, ddof=1)),
    }


def load_data(root: Path, task: str, row: str, splits: list[str], model: dict[str, Any]) -> dict[str, Any]:
    """Return items and features by split."""
    features = feature_of(row, **model)
    data = {}
    for split in splits:
        items = read_items(root, task, [split])
        data[split] = (
            items,
            all_features(items, features, pooled=task != "asr", name=f"{Path(row).stem} {task} {split}"),
        )
    return data


def show(results: dict[str, Any], rows: list[str], tasks: list[str], split: str) -> str:
    """Return a table with standard errors."""
    cells = [
        [
            Path(row).stem,
            *(f"{found['mean']:.1f} ± {found['error']:.1f}" for found in (results[row][t][split] for t in tasks)),
        ]
        for row in rows
    ]
    return tabulate(cells, headers=[split, *(f"{task} {METRICS[task]}" for task in tasks)], tablefmt="github")


@click.command(context_settings={"show_default": True})
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("checkpoints", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file for the results.")
@click.option("--tasks", default=",".join(TASKS), help="Comma-separated tasks.")
@click.option("--seeds", default=2, type=click.IntRange(min=1), help="Seeds of the heads.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Steps of the heads; by default " + ", ".join(f"{k} {v}" for k, v in STEPS.items()),
)
@click.option("--test", is_flag=True, help="Also read the test sets.")
@click.option("--family", default="wavlm", type=click.Choice(FAMILIES))
@click.option("--size", default="mini", type=click.Choice(tuple(SHAPES)), help="Of the random weights.")
@click.option("--threads", default=1, type=click.IntRange(min=1))
def main(
    data: Path,
    checkpoints: tuple[Path, ...],
    out: Path,
    tasks: str,
    seeds: int,
    steps: int | None,
    test: bool,
    family: str,
    size: str,
    threads: int,
) -> None:
    """Evaluate CHECKPOINTS, log-mel and random weights on the mini-SUPERB in DATA."""
    torch.set_num_threads(threads)
    upstream_elp.register()
    chosen = tasks.split(",")
    if unknown := sorted(set(chosen) - set(TASKS)):
        raise ElpError(f"--tasks must be of {', '.join(TASKS)}, but has {', '.join(unknown)}")
    splits = ["train", "dev", *(["test"] if test else [])]
    rows = ["fbank", "random", *map(str, checkpoints)]
    known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    results: dict[str, Any] = {row: {} for row in rows}
    for row in rows:
        for task in chosen:
            identity = sha256_of(Path(row)) if Path(row).is_file() else f"{row} {family} {size}"
            key = json.dumps([identity, settings_of(data), task, splits, seeds, steps])
            if key not in known:
                start = time.process_time()
                found = load_data(data, task, row, splits, {"family": family, "size": size, "seed": 1})
                known[key] = {"row": row, **evaluate(task, found, steps=steps or STEPS[task], seeds=seeds)}
                known[key]["cpu_seconds"] = round(time.process_time() - start, 1)
                write_json(out, known)
            results[row][task] = known[key]
    for split in splits[1:]:
        click.echo(show(results, rows, chosen, split) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
