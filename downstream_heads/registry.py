"""The look-up of our tasks: each folder with an ``about.py`` is one, and nothing else lists them."""

from __future__ import annotations

import importlib
from collections.abc import Container
from functools import cache

from downstream_heads.contract import FOLDER, LOSS, PREFIX, Metric, Task
from upstream_elp.base.errors import ElpError


def names() -> list[str]:
    """The tasks' whole names, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob(f"{PREFIX}*/about.py"))


def find(name: str) -> Task:
    """A task by its whole name; only its ``about.py`` is imported.

    Raises:
        ElpError: no such task; lists the valid names.
    """
    known = names()
    if name not in known:
        raise ElpError(f"unknown task {name!r}; the tasks are: {', '.join(known)}")
    return importlib.import_module(f"{__package__}.{name}.about").TASK


def tasks() -> dict[str, Task]:
    """All tasks by their names."""
    return {name: find(name) for name in names()}


def whole_name(name: str, *, others: Container[str] = ()) -> str:
    """The whole name of a task of ours, which may be given without ``elp_``; any other name as it is.

    Args:
        name: what a user wrote.
        others: names that mean something else there: ``-d asr`` of ``elp run`` is S3PRL's own task.
    """
    whole = f"{PREFIX}{name}"
    return whole if name not in others and whole in names() else name


def in_words(*, others: Container[str] = ()) -> str:
    """The tasks for a help text, with their short names in brackets where these mean the task."""
    return ", ".join(name if task.short in others else f"{name} ({task.short})" for name, task in tasks().items())


def comparing() -> str:
    """The names of the tasks that compare two answers, for messages."""
    return ", ".join(name for name, task in tasks().items() if task.compares)


def metric(name: str) -> Metric:
    """How to read a metric by its name in ``metrics.jsonl``; that of another task has neither unit nor direction."""
    return _metrics().get(name, Metric(name, unit="", higher_is_better=None))


@cache
def _metrics() -> dict[str, Metric]:
    return {"loss": LOSS} | {name: metric for task in tasks().values() for name, metric in task.metrics.items()}
