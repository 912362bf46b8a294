"""Summarise the reports in the runs' folders (``results.json`` and logs) in one table and two plots."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upstream_elp.base.files import whole_file
from upstream_elp.experiment.facts import read_results
from upstream_elp.experiment.logs import read_logs
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


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run, read from its folder.

    Args:
        job: the run.
        results: training's report.
        test: the evaluation of the best checkpoint on test.
    """

    job: Job
    results: dict[str, Any]
    test: dict[str, Any]

    @property
    def trainable(self) -> dict[str, int]:
        """Number of trained parameters of upstream, featurizer and head."""
        parts = {name: count for name, count in (self.results["parameters"] or {}).items() if name != "frozen"}
        outside = {name: parts.pop(name, 0) for name in ("featurizer", "head")}
        return {"upstream": sum(parts.values()), **outside}

    @property
    def seconds(self) -> float:
        """Seconds of training, over all processes of the run."""
        return round(self.results["seconds"], 1)

    @property
    def layer_weights(self) -> list[dict[str, Any]]:
        """Encoder layers (0 is the input) and their softmax weights; empty if the head sees only one state."""
        named = self.results["layer_weights"]
        return [{"layer": int(each["layer"].rsplit(" ", 1)[1]), "weight": each["weight"]} for each in named]

    @functools.cached_property
    def curve(self) -> list[dict[str, Any]]:
        """Train loss and dev metric (the second one, if there are two) over steps."""
        task, curves = TASKS[self.job.task], read_logs(Path(self.job.folder)).curves
        metric = task.also or task.main_metric
        lines = {
            "train loss": curves.get("train", {}).get("loss", {}),
            f"dev {task.metrics[metric].title} (%)": curves.get(task.split("dev"), {}).get(metric, {}),
        }
        return [
            {"what": what, "step": step, "value": value}
            for what, points in sorted(lines.items())
            for step, value in sorted(points.items())
            if value is not None
        ]


def write_report(jobs: Sequence[Job], out: Path, *, note: str) -> str:
    """Write ``results.{md,csv,json}``, ``curves.{png,csv}`` and ``layer_weights.{png,csv}`` into ``out``.

    Args:
        jobs: the runs; unfinished ones are skipped.
        out: the folder.
        note: a sentence that names the data and the backbone.

    Returns:
        The Markdown text.
    """
    from upstream_elp.quickstart.plots import plot_curves, plot_layer_weights

    outcomes = sorted((outcome for job in jobs if (outcome := _outcome(job)) is not None), key=_order)
    frame = pd.DataFrame([_row(outcome) for outcome in outcomes], columns=list(COLUMNS))
    curves = pd.DataFrame([{**_names(outcome), **point} for outcome in outcomes for point in outcome.curve])
    weights = pd.DataFrame([{**_names(outcome), **each} for outcome in outcomes for each in outcome.layer_weights])
    text = markdown(frame, note)
    _write(out / "results.md", text)
    _write(out / "results.csv", frame.to_csv(index=False))
    everything = {"note": note, "runs": [_in_full(outcome) for outcome in outcomes]}
    _write(out / "results.json", json.dumps(everything, indent=2))
    _write(out / "curves.csv", curves.to_csv(index=False))
    _write(out / "layer_weights.csv", weights.to_csv(index=False))
    plot_curves(curves, out / "curves.png")
    if not weights.empty:
        plot_layer_weights(weights, out / "layer_weights.png")
    return text


def markdown(frame: pd.DataFrame, note: str) -> str:
    """Two Markdown tables: results per task and method, and the methods' sizes and times."""
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


def _order(outcome: Outcome) -> tuple[int, int]:
    """Sort key: by task, then from the smallest method to the largest."""
    return list(TASKS).index(outcome.job.task), outcome.trainable["upstream"]


def _cell(row: Any) -> str:
    return f"{row.value:.1f}" if pd.isna(row.also) else f"{row.value:.1f} / {row.also:.1f}"


def _outcome(job: Job) -> Outcome | None:
    test = job.tested()
    return None if test is None else Outcome(job, read_results(job.results), test)


def _names(outcome: Outcome) -> dict[str, str]:
    return {"task": outcome.job.task, "method": outcome.job.method}


def _row(outcome: Outcome) -> dict[str, Any]:
    job, test, task = outcome.job, outcome.test, TASKS[outcome.job.task]
    losses = [point["value"] for point in outcome.curve if point["what"] == "train loss"]
    return {
        **_names(outcome),
        "metric": task.main_metric,
        "value": test["metrics"][task.main_metric],
        "also": test["metrics"].get(task.also),
        "chance": test["chance"].get(task.main_metric),
        "items": test["items"],
        "steps": job.steps,
        "best_step": test["checkpoint_step"],
        "seed": job.seed,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "trained_upstream": outcome.trainable["upstream"],
        "trained_head": outcome.trainable["head"],
        "train_seconds": outcome.seconds,
    }


def _in_full(outcome: Outcome) -> dict[str, Any]:
    test = outcome.test
    return {
        "settings": outcome.job.settings(),
        **_names(outcome),
        "metric": TASKS[outcome.job.task].main_metric,
        "test": test["metrics"],
        "chance": test["chance"],
        "items": test["items"],
        "selected": test["checkpoint"],
        "best_step": test["checkpoint_step"],
        "trainable": outcome.trainable,
        "layer_weights": [each["weight"] for each in outcome.layer_weights],
        "layers": [each["layer"] for each in outcome.layer_weights],
        "seconds": {"train": outcome.seconds},
        "machine": {"device": outcome.results["device"], "torch": (outcome.results["versions"] or {}).get("torch")},
        "curve": [{**_names(outcome), **point} for point in outcome.curve],
    }


def _write(path: Path, text: str) -> None:
    with whole_file(path, encoding="utf-8") as file:
        file.write(text)
