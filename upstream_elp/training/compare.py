"""One table over several experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from upstream_elp.training.logs import metric_of


def compare(experiments: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per experiment; what only some of them have is empty in the others.

    Args:
        experiments: name -> content of its ``results.json``; of several evaluations of a split, the latest of a best
            checkpoint is shown, if there is one.
    """
    rows = [{"experiment": name, **_row(results)} for name, results in experiments.items()]
    frame = pd.DataFrame(rows)
    return frame[[*_first(frame.columns), *(column for column in frame.columns if column not in _first(frame.columns))]]


def to_markdown(frame: pd.DataFrame) -> str:
    """The table for reading: thousands separated, two digits after the point, ``-`` for what is not known."""
    shown = frame.apply(lambda column: column.map(lambda value: _cell(value, str(column.name))))
    return shown.to_markdown(index=False, disable_numparse=True)


def _row(results: Mapping[str, Any]) -> dict[str, Any]:
    args, parts = results.get("args") or {}, results.get("parameters") or {}
    row: dict[str, Any] = {
        "task": args.get("downstream"),
        "upstream": args.get("upstream"),
        "adapter": (results.get("adapter") or {}).get("name"),
        "seed": results.get("seed"),
    }
    for split, values in results["metrics"].items():
        for name, point in values.items():
            if split == "train" or name == "loss":
                continue
            row[_column(split, name, "best")] = point["best"]
            row[f"{split} {name} best step"] = point["best_step"]
    for line in sorted(results["tests"], key=lambda line: str(line.get("checkpoint")).endswith("-best.ckpt")):
        row |= {
            _column(line["split"], name, "test"): value for name, value in line["metrics"].items() if name != "loss"
        }
    row["trained parameters"] = sum(count for name, count in parts.items() if name != "frozen") if parts else None
    row["seconds"] = results.get("seconds")
    row["peak memory (GiB)"] = None if (peak := results.get("peak_memory_bytes")) is None else peak / 2**30
    return row


def _column(split: str, name: str, what: str) -> str:
    unit = metric_of(name).unit
    return " ".join([split, name, *(["best"] if what == "best" else []), *([f"({unit})"] if unit else [])])


def _first(columns: Sequence[str]) -> list[str]:
    """Names first, then metrics, sizes and times last."""
    last = ("trained parameters", "seconds", "peak memory (GiB)")
    return [column for column in columns if column not in last]


def _cell(value: Any, column: str) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "-"
    whole = isinstance(value, int | float) and float(value).is_integer()
    if whole and (column in ("trained parameters", "seed") or column.endswith("step")):
        return str(int(value)) if column == "seed" else f"{int(value):,}"
    return f"{value:.2f}" if isinstance(value, int | float) else str(value)
