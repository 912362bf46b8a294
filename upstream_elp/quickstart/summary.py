"""From the runs' ``result.json`` and ``metrics.jsonl`` to tables, files and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from upstream_elp.base.files import whole_file
from upstream_elp.quickstart.jobs import TASKS, Job

COLUMNS = {
    "task": "task",
    "method": "method",
    "metric": "metric",
    "value": "test value (%)",
    "also": "second test value (%)",
    "chance": "chance (%)",
    "items": "test items",
    "steps": "steps",
    "best_step": "best step",
    "seed": "seed",
    "loss_first": "first train loss",
    "loss_last": "last train loss",
    "trained_upstream": "trained in upstream",
    "trained_head": "trained in head",
    "train_seconds": "train seconds",
}


def write_report(jobs: Sequence[Job], out: Path, *, note: str) -> str:
    """Write ``results.{md,csv,json}``, ``curves.{png,csv}`` and ``layer_weights.{png,csv}`` into ``out``.

    Args:
        jobs: the runs; those without a result are left out.
        out: folder.
        note: sentence that says on what data and backbone this was measured.

    Returns:
        The Markdown text.
    """
    from upstream_elp.quickstart.plots import plot_curves, plot_layer_weights

    results = sorted((_result(job) for job in jobs if job.result.is_file()), key=_order)
    frame = pd.DataFrame([_row(job, result) for job, result in results], columns=list(COLUMNS))
    curves = pd.DataFrame([point for job, _ in results for point in _curve(job)])
    weights = pd.DataFrame(
        [
            {"task": job.task, "method": job.method, "layer": layer, "weight": weight}
            for job, result in results
            for layer, weight in zip(result["layers"], result["layer_weights"], strict=True)
        ]
    )
    text = markdown(frame, note)
    _write(out / "results.md", text)
    _write(out / "results.csv", frame.to_csv(index=False))
    everything = [{**result, "curve": _curve(job)} for job, result in results]
    _write(out / "results.json", json.dumps({"note": note, "runs": everything}, indent=2))
    _write(out / "curves.csv", curves.to_csv(index=False))
    _write(out / "layer_weights.csv", weights.to_csv(index=False))
    plot_curves(curves, out / "curves.png")
    if not weights.empty:
        plot_layer_weights(weights, out / "layer_weights.png")
    return text


def markdown(frame: pd.DataFrame, note: str) -> str:
    """Two tables: results per task and method, and the methods' sizes and times."""
    methods = list(dict.fromkeys(frame["method"]))
    rows = []
    for task, group in frame.groupby("task", sort=False):
        first = group.iloc[0]
        known = {row.method: _cell(row) for row in group.itertuples()}
        arrow = "↑" if TASKS[task].higher_is_better else "↓"
        metric = " / ".join(TASKS[task].metrics[name].title for name in (first["metric"], TASKS[task].also) if name)
        rows.append(
            {
                "task": TASKS[task].title,
                "test metric (%)": f"{metric} {arrow}",
                "chance": f"{first['chance']:.1f}",
                **{method: known.get(method, "-") for method in methods},
                "test items": first["items"],
                "steps": first["steps"],
                "seed": first["seed"],
            }
        )
    sizes = [
        {
            "method": method,
            "trained in the upstream": f"{group['trained_upstream'].iloc[0]:,}",
            "trained in the heads": f"{group['trained_head'].min():,} to {group['trained_head'].max():,}",
            **{f"{TASKS[row.task].title} seconds": f"{row.train_seconds:.0f}" for row in group.itertuples()},
        }
        for method, group in frame.groupby("method", sort=False)
    ]
    tables = [pd.DataFrame(table).to_markdown(index=False, disable_numparse=True) for table in (rows, sizes)]
    return f"{note}\n\n" + "\n\n".join(tables) + "\n"


def _order(found: tuple[Job, dict[str, Any]]) -> tuple[int, int]:
    """By task, then from the smallest method to the largest."""
    job, result = found
    return list(TASKS).index(job.task), result["trainable"]["upstream"]


def _cell(row: Any) -> str:
    return f"{row.value:.1f}" if pd.isna(row.also) else f"{row.value:.1f} / {row.also:.1f}"


def _result(job: Job) -> tuple[Job, dict[str, Any]]:
    return job, json.loads(job.result.read_text(encoding="utf-8"))


def _row(job: Job, result: dict[str, Any]) -> dict[str, Any]:
    losses = [point["value"] for point in _curve(job) if point["what"] == "train loss"]
    return {
        "task": job.task,
        "method": job.method,
        "metric": result["metric"],
        "value": result["test"][result["metric"]],
        "also": result["test"].get(TASKS[job.task].also),
        "chance": result["chance"].get(result["metric"]),
        "items": result["items"],
        "steps": job.steps,
        "best_step": result["best_step"],
        "seed": job.seed,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "trained_upstream": result["trainable"]["upstream"],
        "trained_head": result["trainable"]["head"],
        "train_seconds": result["seconds"]["train"],
    }


def _curve(job: Job) -> list[dict[str, Any]]:
    """Train loss and dev metric (the second one, if there is one) over steps; a repeated step counts the last time."""
    task = TASKS[job.task]
    metric, dev = task.also or task.main_metric, task.split("dev")
    points: dict[tuple[str, int], float] = {}
    for line in (Path(job.folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["split"] == "train" and record["metrics"].get("loss") is not None:
            points["train loss", record["step"]] = record["metrics"]["loss"]
        if record["split"] == dev and record["step"] and record["metrics"].get(metric) is not None:
            points[f"dev {task.metrics[metric].title} (%)", record["step"]] = record["metrics"][metric]
    return [
        {"task": job.task, "method": job.method, "what": what, "step": step, "value": value}
        for (what, step), value in sorted(points.items())
    ]


def _write(path: Path, text: str) -> None:
    with whole_file(path, encoding="utf-8") as file:
        file.write(text)
