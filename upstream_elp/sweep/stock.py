"""The data of S3PRL's own tasks in a sweep: they do not list their files, so all files in their folders count."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downstream_heads.stock import STOCK, StockTask, values_of
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
    _check_needs(cell, task, expert)
    return {key: [_fingerprint(Path(place)) for place in _places(cell, expert, key)] for key in task.places}


def _check_needs(cell: Cell, task: StockTask, expert: Mapping[str, Any]) -> None:
    """Refuse the configuration of another task that S3PRL trains with the same expert, or batches in evaluations."""
    for key, value in task.needs.items():
        if (found := values_of(expert, key)[0]) != value:
            raise ElpError(
                f"{cell.where}: downstream_expert.{key} of {cell.task} must be {value} (of a list, the first "
                f"value), but is {shown(found)}; correct it in config or under set"
            )


def _places(cell: Cell, expert: Mapping[str, Any], key: str) -> list[str]:
    """The value of a key of places, a path or a list of paths."""
    for place in (listed := values_of(expert, key)):
        if not isinstance(place, str) or not Path(place).exists():
            raise ElpError(
                f"{cell.where}: downstream_expert.{key} of {cell.task} must be a path that exists, but is "
                f"{shown(place)}; correct it in config or under set"
            )
    return listed


def _fingerprint(path: Path) -> dict[str, Any]:
    """The fingerprint of a file, or of all files in a folder."""
    from upstream_elp.training.datafiles import data_fingerprint

    root, files = (path.parent, [path]) if path.is_file() else _files(path)
    content = contents.sample(root, [each.relative_to(root).as_posix() for each in files])
    return {**data_fingerprint(files), "content": content}


def _files(folder: Path) -> tuple[Path, list[Path]]:
    """All files in a folder, and the files that it lists in Kaldi's form instead of the list; and what contains all.

    Raises:
        ElpError: the list names a program instead of a file.
    """
    table = folder / "wav.scp"
    files = [each for each in folder.rglob("*") if each.is_file() and each != table]
    if table.is_file():
        lines = [line.split(None, 1)[1].strip() for line in table.read_text().splitlines() if len(line.split()) > 1]
        if programs := [line for line in lines if line.endswith("|")]:
            raise ElpError(
                f"{table} must list files, but one line runs a program ({shown(programs[0])}); write its output into "
                "a file and list that"
            )
        files += [Path(line).absolute() for line in lines]
    whole = sorted({each.absolute() for each in files})
    return Path(os.path.commonpath([folder.absolute(), *whole])), whole
