"""One table over several experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from downstream_heads import registry
from upstream_elp.base import energy
from upstream_elp.host.checkpoints import is_best
from upstream_elp.statistics import Interval

WHOLE = ("seed", "best step", "trained parameters")
"""Columns of whole numbers."""
ENERGY = {kind: f"energy of {name} (Wh)" for kind, name in energy.KINDS.items()}
LAST = ("trained parameters", "seconds", *ENERGY.values(), "peak memory (GiB)")
"""Columns after the metrics."""
ERROR = " standard error"
"""How the names of columns with standard errors end, before the unit."""
SHARED = ("task", "upstream", "adapter", "seed")
"""Columns that are equal in all folds of one experiment."""


def compare(experiments: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A table with one row per experiment; columns that an experiment does not have are empty.

    Args:
        experiments: name -> content of its ``results.json``. Of several evaluations of a split, the latest one of a
            best checkpoint is shown if there is one.
    """
    rows = [{"experiment": name, **_row(results)} for name, results in experiments.items()]
    frame = pd.DataFrame(_with_means(rows))
    whole = [column for column in WHOLE if column in frame]
    frame[whole] = frame[whole].astype("Int64")
    return frame[[*_first(frame.columns), *(column for column in frame.columns if column not in _first(frame.columns))]]


def to_markdown(frame: pd.DataFrame) -> str:
    """One Markdown table per task with its own columns, thousands separators, and ``-`` for unknown values."""
    tables = []
    for _, part in frame.groupby("task", sort=False, dropna=False):
        known = part.dropna(axis="columns", how="all")
        shown = known.apply(lambda column: column.map(lambda value: _cell(value, str(column.name))))
        tables.append(_with_errors(shown, known).to_markdown(index=False, disable_numparse=True))
    return "\n\n".join(tables)


def _with_errors(shown: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The table with each standard error behind its value, ``76.10 ± 1.40``, instead of in a column of its own."""
    for column in [name for name in known.columns if ERROR in name]:
        value = column.replace(ERROR, "")
        there = known[column].notna()
        shown.loc[there, value] = shown.loc[there, value] + " ± " + shown.loc[there, column]
        shown = shown.drop(columns=column)
    return shown


def _with_means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and the mean over the folds of rows that differ in nothing else: the task's score."""
    folds: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("fold"):
            kind = row["fold"].rpartition("-")[0]  # random folds are not averaged with folds by session
            folds.setdefault((kind, *(row[key] for key in SHARED)), []).append(row)
    means = []
    for (kind, *values), group in folds.items():
        count = len({row["fold"] for row in group})
        if count < 2 or count < len(group):
            continue
        metrics = [key for key in group[0] if key.endswith("(%)") and all(row.get(key) is not None for row in group)]
        mean = {key: sum(row[key] for row in group) / count for key in metrics if ERROR not in key}
        # folds by session test on different speakers, so their errors are independent; their dev sets share speakers
        for key in (key for key in metrics if ERROR in key and key.startswith("test ") and not kind):
            mean[key] = sum(row[key] ** 2 for row in group) ** 0.5 / count
        name = " ".join(["mean of", str(count), *([kind] if kind else []), "folds"])
        means.append({"experiment": name, **dict(zip(SHARED, values, strict=True)), **mean})
    return [*rows, *means]


def _row(results: Mapping[str, Any]) -> dict[str, Any]:
    args, parts = results.get("args") or {}, results.get("parameters") or {}
    row: dict[str, Any] = {
        "task": args.get("downstream"),
        "upstream": args.get("upstream"),
        "adapter": (results.get("adapter") or {}).get("name"),
        "fold": next((facts["fold"] for facts in results["splits"].values() if "fold" in facts), None),
        "seed": results.get("seed"),
        "best step": results["best_checkpoint_step"],
    }
    for split, values in results["metrics"].items():
        if split != "train":
            row |= {
                _column(split, name): point["at_best_checkpoint"] for name, point in values.items() if name != "loss"
            }
    for line in sorted(results["tests"], key=lambda line: is_best(str(line.get("checkpoint")))):
        for name, value in line["metrics"].items():
            if name != "loss":
                row[_column(line["split"], name)] = value
                row.pop(_column(line["split"], name, ERROR), None)  # of another checkpoint
                if (error := _error(line, name)) is not None:
                    row[_column(line["split"], name, ERROR)] = error
    row["trained parameters"] = sum(count for name, count in parts.items() if name != "frozen") if parts else None
    row["seconds"] = results.get("seconds")
    row |= {ENERGY[kind]: joules / energy.HOUR for kind, joules in (results.get("energy_joules") or {}).items()}
    row["peak memory (GiB)"] = None if (peak := results.get("peak_memory_bytes")) is None else peak / 2**30
    return row


def _error(line: Mapping[str, Any], name: str) -> float | None:
    """The standard error of a metric in a line of ``metrics.jsonl``, if the line has one."""
    found = Interval.from_dict((line.get("intervals") or {}).get(name))
    return found.se if found else None


def _column(split: str, name: str, of: str = "") -> str:
    unit = registry.metric(name).unit
    return f"{split} {registry.metric(name).title}{of}" + (f" ({unit})" if unit else "")


def _first(columns: Sequence[str]) -> list[str]:
    """Names first, then metrics, sizes and times last."""
    return [column for column in columns if column not in LAST]


def _cell(value: Any, column: str) -> str:
    if pd.isna(value):
        return "-"
    if column in WHOLE:
        return str(value) if column == "seed" else f"{value:,}"
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:.2f}" if column.endswith("(%)") or column in LAST else f"{value:.4g}"  # minDCF, others' fractions
