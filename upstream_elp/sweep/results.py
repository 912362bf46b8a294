"""The results of a sweep: one row per job, and the mean and standard deviation over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from downstream_heads import registry
from upstream_elp.base.files import write_json, write_text
from upstream_elp.experiment.facts import RESULTS, read_results
from upstream_elp.sweep.jobs import DONE, FINAL, Job, dev_value, state_of, tested
from upstream_elp.sweep.names import written

UNKNOWN = "-"
CELL = ("task", "method", "backbone", "setting", "searched")
"""Columns in which runs of one cell agree; seeds and folds are averaged."""


def rows(jobs: Iterable[Job], trainable: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """One row per job, with its state; values of jobs that have not ended are missing.

    Args:
        jobs: the jobs.
        trainable: key of a job -> parameters that it trains in the upstream.
    """
    return [_row(job, trainable.get(job.key)) for job in jobs]


def _row(job: Job, trainable: int | None) -> dict[str, Any]:
    task, state = registry.find(job.task), state_of(job)
    row: dict[str, Any] = {
        "task": job.task,
        "method": job.method,
        "backbone": job.backbone,
        "fold": job.fold,
        "seed": job.seed,
        "setting": written(job.varied),
        "searched": written(job.searched),
        "stage": job.stage,
        "state": state,
        "metric": task.main_metric,
        "higher_is_better": task.higher_is_better,
        "test": None,
        "dev": None,
        "metrics": {},
        "trainable": trainable,
        "steps": job.steps,
        "varied": dict(job.varied),
        "chosen": dict(job.searched),
        "key": job.key,
        "folder": job.folder,
    }
    if state != DONE or not (job.path / RESULTS).is_file():
        return row
    results, test = read_results(job.path / RESULTS), tested(job) if job.stage == FINAL else None
    parameters = {name: count for name, count in (results["parameters"] or {}).items() if name != "frozen"}
    row |= {
        "dev": dev_value(job),
        "head": parameters.get("head"),
        "featurizer": parameters.get("featurizer"),
        "train_seconds": results["seconds"],
        "peak_memory_bytes": results["peak_memory_bytes"],
        "device": results["device"],
        "layer_weights": results["layer_weights"],
    }
    if test is not None:
        row |= {
            "test": test["metrics"].get(task.main_metric),
            "metrics": test["metrics"],
            "chance": test.get("chance", {}).get(task.main_metric),
            "items": test["items"],
            "best_step": test["checkpoint_step"],
        }
    return row


def summary(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds, one row per cell, of the runs that were tested.

    Folds are averaged first, within each seed. A seed that lacks a fold is not counted, and the standard deviation of
    one seed is missing.
    """
    usable = [row for row in found if row["stage"] == FINAL and row["test"] is not None]
    columns = [*CELL, "metric", "mean", "sd", "seeds", "folds", "dev_mean", "trainable", "train_seconds"]
    lines = []
    frame = pd.DataFrame(usable)
    if frame.empty:
        return pd.DataFrame(columns=columns)
    frame["fold"], frame["backbone"] = frame["fold"].fillna(""), frame["backbone"].fillna("")
    for names, cell in frame.groupby(list(CELL), sort=False):
        folds = cell["fold"].nunique()
        whole = [part for _, part in cell.groupby("seed") if len(part) == folds]
        test = pd.Series([part["test"].mean() for part in whole], dtype=float)
        dev = pd.Series([part["dev"].astype(float).mean() for part in whole], dtype=float)
        line = dict(zip(CELL, names, strict=True))
        lines.append(
            {
                **line,
                "metric": cell["metric"].iloc[0],
                "mean": test.mean(),
                "sd": test.std(ddof=1),
                "seeds": len(whole),
                "folds": folds,
                "dev_mean": dev.mean(),
                "trainable": cell["trainable"].iloc[0],
                "train_seconds": cell["train_seconds"].mean(),
            }
        )
    return pd.DataFrame(lines, columns=columns)


def write_results(
    out: Path, jobs: Sequence[Job], trainable: Mapping[str, int | None], *, title: str, notes: Sequence[str] = ()
) -> str:
    """Write ``results.{csv,json,md}`` and ``summary.csv`` into the folder of a sweep.

    Args:
        out: the folder.
        jobs: all jobs.
        trainable: see :func:`rows`.
        title: the first line of the Markdown.
        notes: sentences below it.

    Returns:
        The Markdown text.
    """
    found = rows(jobs, trainable)
    nested = ("metrics", "varied", "chosen", "layer_weights")
    flat = [
        {**{key: value for key, value in row.items() if key not in nested}, **_tests(row["metrics"])} for row in found
    ]
    table = summary(found)
    write_text(out / "results.csv", pd.DataFrame(flat).to_csv(index=False))
    write_text(out / "summary.csv", table.to_csv(index=False))
    means = json.loads(table.to_json(orient="records"))
    write_json(out / "results.json", {"title": title, "notes": list(notes), "runs": found, "summary": means})
    text = markdown(table, title=title, notes=notes)
    write_text(out / "results.md", text)
    return text


def markdown(table: pd.DataFrame, *, title: str, notes: Sequence[str] = ()) -> str:
    """One table per task: mean and standard deviation over seeds of the main metric on test."""
    parts = [f"# {title}", *notes]
    for name, group in table.groupby("task", sort=False):
        task = registry.find(str(name))
        shown = pd.DataFrame(
            {
                "method": group["method"],
                "backbone": group["backbone"],
                "setting": group["setting"],
                "chosen on dev": group["searched"],
                f"test {task.metrics[task.main_metric].heading}": [
                    _mean(line.mean_, line.sd) for line in group.rename(columns={"mean": "mean_"}).itertuples()
                ],
                "seeds": group["seeds"],
                "folds": group["folds"],
                "trained in the upstream": [f"{count:,}" for count in group["trainable"].fillna(0).astype(int)],
                "seconds": [f"{seconds:.0f}" for seconds in group["train_seconds"]],
            }
        )
        empty = [column for column in ("backbone", "setting", "chosen on dev") if not shown[column].any()]
        if group["folds"].max() == 1:
            empty.append("folds")
        text = shown.drop(columns=empty).to_markdown(index=False, disable_numparse=True)
        parts.append(f"## {task.title}\n\n{text}")
    parts += [] if len(table) else ["No run has been tested yet."]
    return "\n\n".join(parts) + "\n"


def _tests(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {f"test_{name}": value for name, value in metrics.items() if name != "loss"}


def _mean(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return UNKNOWN
    return f"{mean:.2f}" if pd.isna(sd) else f"{mean:.2f} ± {sd:.2f}"
