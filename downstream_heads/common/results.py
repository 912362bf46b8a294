"""The results of every item of a test set: kept in the run's folder, with intervals over their speakers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from upstream_elp.statistics import Interval, Items, interval

__all__ = ["Items", "answer_columns", "intervals", "spelled"]


def answer_columns(predict: Sequence[Any], truth: Sequence[Any]) -> dict[str, list]:
    """Return the columns of answers: ``predicted``, ``true``, and ``acc`` with 1 for right and 0 for wrong."""
    return {
        "predicted": [spelled(answer) for answer in predict],
        "true": [spelled(answer) for answer in truth],
        "acc": [int(p == t) for p, t in zip(predict, truth, strict=True)],
    }


def spelled(answer: Any) -> str:
    """Write an answer as text; the parts of a tuple are separated by ``|``."""
    return "|".join(answer) if isinstance(answer, tuple) else str(answer)


def intervals(items: Items, values: Mapping[str, float]) -> dict[str, Interval]:
    """Return the intervals of the metrics that the items can have, unless a value is not finite.

    Args:
        items: the results.
        values: metric name -> value, in per cent.
    """
    known = [name for name in values if name in items.measures and math.isfinite(values[name])]
    return {name: interval(items, name) for name in known}
