"""The two logs of an experiment folder: the loop's ``train.jsonl`` and the tasks' ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downstream_heads import registry
from upstream_elp.base.values import is_number

TRAIN_LOG = "train.jsonl"
METRICS_LOG = "metrics.jsonl"
SPLIT_KEYS = ("items", "chance", "protocol", "selected_on", "fold")
"""Keys in ``metrics.jsonl`` that describe a split as a whole; not every task writes them."""


def show(name: str, value: float | None) -> str:
    """A value with its unit, for tables."""
    if value is None:
        return "not finite"
    return f"{value:.2f} %" if registry.metric(name).unit == "%" else f"{value:.4g}"


@dataclass
class Logs:
    """The content of a folder's logs, with each step once.

    Args:
        train: lines of ``train.jsonl``, sorted by step.
        curves: split -> metric -> step -> value (None if it was not finite), from evaluations during training.
        splits: evaluated split -> those of :data:`SPLIT_KEYS` that are known: the number of items, the metrics of a
            trivial answer, the protocol, and the split on which the best checkpoint is chosen.
        tests: evaluations of a checkpoint from the command line, the last one per split and checkpoint, in the order in
            which they were made.
        missing: one sentence for each thing that is missing.
    """

    train: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, dict[str, dict[int, float | None]]] = field(default_factory=dict)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    tests: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_logs(folder: Path) -> Logs:
    """Read both logs; if a step appears twice (after resuming), the last line counts."""
    logs = Logs()
    steps = {line["step"]: line for line in _lines(folder / TRAIN_LOG, logs) if isinstance(line.get("step"), int)}
    logs.train = [steps[step] for step in sorted(steps)]
    tests: dict[tuple[str, str], dict[str, Any]] = {}
    for line in _lines(folder / METRICS_LOG, logs):
        split, step, values = line.get("split"), line.get("step"), line.get("metrics")
        if not isinstance(split, str) or not isinstance(step, int) or not isinstance(values, dict):
            continue
        if "checkpoint" in line or step == 0:
            tests.pop((split, str(line.get("checkpoint"))), None)  # so that the latest is last
            tests[split, str(line.get("checkpoint"))] = line
            continue
        if split != "train":  # its lines only count the items since the previous line
            logs.splits[split] = {key: line[key] for key in SPLIT_KEYS if key in line}
        for name, value in values.items():
            logs.curves.setdefault(split, {}).setdefault(name, {})[step] = finite(value)
    logs.tests = list(tests.values())
    return logs


def summarize(points: dict[int, float | None], name: str, *, chosen: int | None = None) -> dict[str, Any]:
    """Best and last value of a metric with their steps, and the value at the best checkpoint.

    ``best`` is the first of equal values; None if no value is finite or the metric's direction is not known.

    Args:
        points: step -> value.
        name: the metric's name.
        chosen: the best checkpoint's step.
    """
    final = max(points)
    finite = {step: value for step, value in sorted(points.items()) if value is not None}
    upwards, best = registry.metric(name).higher_is_better, None
    if finite and upwards is not None:
        best = (max if upwards else min)(finite, key=finite.__getitem__)
    return {
        "best": None if best is None else finite[best],
        "best_step": best,
        "at_best_checkpoint": points.get(chosen),
        "final": points[final],
        "final_step": final,
        "unit": registry.metric(name).unit,
    }


def _lines(path: Path, logs: Logs) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        logs.missing.append(f"there is no {path.name}")
        return
    broken = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # a kill can cut off a line
            line = None
        if isinstance(line, dict):
            yield line
        else:
            broken += bool(text.strip())
    if broken:
        logs.missing.append(f"{broken} broken lines of {path.name} are skipped")


def finite(value: Any) -> float | None:
    """The value as a float, or None (null) if JSON cannot express it."""
    good = is_number(value)
    return float(value) if good else None
