"""The data of S3PRL's own tasks in a sweep: they do not list their files, so all files in their folders count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downstream_heads.stock import STOCK, StockTask
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.launch import arguments
from upstream_elp.sweep import contents
from upstream_elp.sweep.points import Cell


def listed(cell: Cell, config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the places of a task's data, and return a fingerprint of each: all files in a folder.

    Args:
        cell: a cell of one of S3PRL's own tasks.
        config: its whole configuration.

    Raises:
        ElpError: a package that the task needs is missing, its configuration is another task's, or a place is not
            named or does not exist.
    """
    task = STOCK[cell.task]
    try:
        arguments.stock_task(task.command)
    except ElpError as error:
        raise ElpError(f"{cell.where}: {error}") from error
    expert = config["downstream_expert"]
    _check_metric(cell, task, expert)
    return {key: _fingerprint([Path(place) for place in _places(cell, expert, key)]) for key in task.places}


def _check_metric(cell: Cell, task: StockTask, expert: Mapping[str, Any]) -> None:
    """Refuse the configuration of another task that S3PRL trains with the same expert."""
    if not task.flag:
        return
    listed = expert.get("metric")
    if not isinstance(listed, list) or listed[:1] != [task.main_metric]:
        raise ElpError(
            f"{cell.where}: the first of downstream_expert.metric must be {task.main_metric} for {cell.task}, but "
            f"metric is {shown(listed)}; name a configuration of {task.title} in config"
        )


def _places(cell: Cell, expert: Mapping[str, Any], key: str) -> list[str]:
    """The value of a key of places, a path or a list of paths."""
    value: Any = expert
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    listed = value if isinstance(value, list) and value else [value]
    for place in listed:
        if not isinstance(place, str) or not Path(place).exists():
            raise ElpError(
                f"{cell.where}: downstream_expert.{key} of {cell.task} must be a path that exists, but is "
                f"{shown(place)}; correct it in config or under set"
            )
    return listed


def _fingerprint(paths: list[Path]) -> dict[str, Any]:
    """The fingerprint of files and of all files in folders."""
    from upstream_elp.training.datafiles import data_fingerprint

    found = []
    for path in paths:
        root = path.parent if path.is_file() else path
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        content = contents.sample(root, [each.relative_to(root).as_posix() for each in files])
        found.append({**data_fingerprint(files), "content": content})
    return found[0] if len(found) == 1 else {"parts": found}
