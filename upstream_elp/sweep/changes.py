"""The keys of a configuration that a plan may change."""

from __future__ import annotations

from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean
from upstream_elp.sweep import values
from upstream_elp.sweep.names import split

CHANGED = ("adapter", "runner", "optimizer", "scheduler", "specaug", "downstream_expert")
"""The blocks that ``set`` and ``grid`` may change: the adapter's configuration, and those of a task's configuration."""


def grid(raw: Any, where: str) -> dict[str, tuple[Any, ...]]:
    """Read a block of changed keys with lists of values.

    Raises:
        ElpError: an invalid key, or something else than a list of different values.
    """
    found = values.mapping(raw, where)
    for key in found:
        check(key, where)
    return {key: values.distinct(found[key], f"{where}.{key}") for key in found}


def check(key: Any, where: str) -> None:
    """Refuse a key, or one of several separated by commas, that does not name a part of these blocks."""
    for each in split(str(key)):
        _check_one(each, where)


def _check_one(key: str, where: str) -> None:
    parts = key.split(".")
    if len(parts) < 2 or not all(parts) or parts[0] not in CHANGED:
        hint = did_you_mean(parts[0], CHANGED, then="an example is optimizer.groups.e_adapter")
        raise ElpError(
            f"{where}: a key must be dotted and begin with {', '.join(CHANGED)}, but is {shown(key)}; {hint}"
        )
