"""Who works in a run's folder. The system releases these locks when a process ends, even if it is killed."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

LOCK = "lock"
"""File that the process of a run holds; each rank that it starts holds one of its own, such as ``lock.rank0``."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Wait until no other process runs in the folder, and hold it while the block runs.

    Ranks of an earlier process may still be saving when that process is already gone.
    """
    with (folder / LOCK).open("a") as file:
        _wait_for(file)
        for path in folder.glob(f"{LOCK}.rank*"):
            with path.open("a") as rank:
                _wait_for(rank)
        yield


@contextlib.contextmanager
def held_by_rank(folder: Path, rank: int) -> Iterator[None]:
    """Hold the folder as one of several ranks, whose common parent holds it too."""
    with (folder / f"{LOCK}.rank{rank}").open("a") as file:
        _wait_for(file)
        yield


def locked(folder: Path) -> bool:
    """Whether a process runs in the folder."""
    return any(map(_taken, folder.glob(f"{LOCK}*")))


def _wait_for(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo("elp: another process runs this job; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)


def _taken(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
