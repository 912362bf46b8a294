"""The registry of our tasks: every folder with an ``about.py`` is a task; there is no other list."""

from __future__ import annotations

import importlib
from collections.abc import Container
from functools import cache

from downstream_heads.contract import FOLDER, LOSS, PREFIX, Metric, Task
from downstream_heads.stock import STOCK
from upstream_elp.base.errors import ElpError


def names() -> list[str]:
    """Return the full names of the tasks, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"{PREFIX}*/about.py"))


def find(name: str) -> Task:
    """Return a task by its full name; only its ``about.py`` is imported.

    Raises:
        ElpError: there is no such task; lists the valid names.
    """
    known = names()
    if name not in known:
        raise ElpError(f"unknown task {name!r}; the tasks are: {', '.join(known)}")
    return importlib.import_module(f"{__package__}.{name}.about").TASK


def described(name: str) -> Task:
    """Return a task of ours, or one of S3PRL's own that sweeps can run, by its full name.

    Raises:
        ElpError: it is neither; lists our names.
    """
    return STOCK[name] if name in STOCK else find(name)


def tasks() -> dict[str, Task]:
    """Return all tasks by name."""
    return {name: find(name) for name in names()}


def whole_name(name: str, *, others: Container[str] = ()) -> str:
    """Return the full name of one of our tasks, which may be given without ``elp_``; other names are unchanged.

    Args:
        name: what a user wrote.
        others: names that already mean something else: ``elp run -d asr`` is S3PRL's own task.
    """
    whole = f"{PREFIX}{name}"
    return whole if name not in others and whole in names() else name


def in_words(*, others: Container[str] = ()) -> str:
    """List the tasks for a help text, each with its short name in brackets if that means the task."""
    return ", ".join(name if task.short in others else f"{name} ({task.short})" for name, task in tasks().items())


def comparing() -> str:
    """List the tasks that compare pairs of answers, for messages."""
    return ", ".join(name for name, task in tasks().items() if task.compares)


def metric(name: str) -> Metric:
    """Return a metric by its name in ``metrics.jsonl``; an unknown one has neither unit nor direction."""
    return _metrics().get(name, Metric(name, unit="", higher_is_better=None))


@cache
def _metrics() -> dict[str, Metric]:
    everything = [*STOCK.values(), *tasks().values()]
    return {"loss": LOSS} | {name: metric for task in everything for name, metric in task.metrics.items()}
