"""The data of S3PRL's own tasks in a sweep: they do not list their files, so all files in their folders count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downstream_heads.stock import STOCK
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
        ElpError: a package that the task needs is missing, or a place is not named or does not exist.
    """
    from upstream_elp.training.datafiles import data_fingerprint

    try:
        arguments.stock_task(cell.task)
    except ElpError as error:
        raise ElpError(f"{cell.where}: {error}") from error
    block = config["downstream_expert"].get("datarc")
    found = {}
    for key in STOCK[cell.task].places:
        place = block.get(key) if isinstance(block, Mapping) else None
        if not isinstance(place, str) or not Path(place).exists():
            raise ElpError(
                f"{cell.where}: downstream_expert.datarc.{key} of {cell.task} must be a path that exists, but is "
                f"{shown(place)}; correct it in config or under set"
            )
        path = Path(place)
        root = path.parent if path.is_file() else path
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        content = contents.sample(root, [each.relative_to(root).as_posix() for each in files])
        found[key] = {**data_fingerprint(files), "content": content}
    return found
