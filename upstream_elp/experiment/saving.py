"""Write training checkpoints so that a kill or a full disk loses nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file
from upstream_elp.base.safe_load import why_refused
from upstream_elp.experiment.checkpoint import Checkpoint, load_checkpoint
from upstream_elp.host import checkpoints

BYTES_PER_PARAMETER = 12
"""A float32 weight and Adam's two moments."""


def write(checkpoint: Checkpoint, folder: Path, names: list[str], *, max_keep: int) -> list[Path]:
    """Write one checkpoint under several names, then delete the oldest ``states-N.ckpt`` beyond ``max_keep``.

    Args:
        checkpoint: what to write.
        folder: the experiment folder.
        names: file names; ``states-N.ckpt`` gets everything, the others only what evaluation needs.
        max_keep: how many ``states-N.ckpt`` to keep.

    Raises:
        ElpError: if a file cannot be written; existing files are not changed.
    """
    whole, light = checkpoint.to_mapping(), checkpoint.without_progress().to_mapping()
    written = []
    for name in dict.fromkeys(names):
        path = folder / name
        try:
            with whole_file(path, "wb") as file:
                torch.save(whole if name.startswith("states-") else light, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            raise ElpError(_not_written(path, error)) from error
        written.append(path)
    _sync(folder)
    for old in checkpoints.states(folder)[:-max_keep]:
        old.unlink(missing_ok=True)
    return written


def _sync(folder: Path) -> None:
    """Make the new names survive a loss of power before the old files are deleted."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path: Path, error: Exception) -> str:
    kept = [old.name for old in checkpoints.states(path.parent)]
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
    free = shutil.disk_usage(path.parent).free
    then = f"resume from {kept[-1]} with -a" if kept else "start again"
    return f"{path} cannot be written ({reason}; {free / 1e6:.0f} MB are free there); free some space, then {then}"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second training out of an experiment folder, such as a requeued job while the first still runs.

    The lock belongs to the process: it ends with the process, whatever ends that, and data-loading processes do not
    inherit it.

    Raises:
        ElpError: another process trains there.
    """
    path = folder / ".lock"
    with path.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ElpError(
                    f"another process is training in {folder}; wait until it has ended and resume with -a, or use "
                    "another folder with -p"
                ) from error
            # on a file system without locks, nothing keeps others out
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def clean_up(folder: Path) -> None:
    """Remove temporary files, as large as a checkpoint, that a kill during a write has left."""
    for path in folder.glob(".*.ckpt.*"):
        path.unlink(missing_ok=True)


def check_room(folder: Path, parameters: int) -> None:
    """Refuse to start if two checkpoints do not fit, as the new one is written before an old one is deleted.

    Raises:
        ElpError: naming both sizes.
    """
    needed, free = 2 * BYTES_PER_PARAMETER * parameters, shutil.disk_usage(folder).free
    if free < needed:
        raise ElpError(
            f"{folder} has {free / 1e6:.0f} MB of free space, but two checkpoints of this run need {needed / 1e6:.0f} "
            "MB; free some space, or use another folder with -p"
        )


def rehearse(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint and read it back, so that an unusable one is reported before the first step.

    Args:
        checkpoint: the checkpoint as it is before training.
        folder: the experiment folder; no file is left in it.

    Raises:
        ElpError: if it cannot be written, or cannot be loaded without running code.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".rehearsal.ckpt.") as file:
        try:
            torch.save(checkpoint.to_mapping(), file)
            file.flush()
        except (OSError, RuntimeError, pickle.PicklingError) as error:
            raise ElpError(_not_written(folder / "states-0.ckpt", error)) from error
        try:
            load_checkpoint(file.name)
        except ElpError as error:
            reason = why_refused(error.__cause__) if isinstance(error.__cause__, Exception) else error
            raise ElpError(
                f"a checkpoint of this run could not be loaded again: {reason}; check the config for values other than "
                "numbers, texts and lists of them, such as dates, and put these in quotes"
            ) from error


def plain_records(records: Mapping[str, list]) -> dict[str, list] | None:
    """The records since the last log line as plain values and tensors; None if a record is neither."""
    try:
        return {str(key): [_plain(value) for value in values] for key, values in records.items()}
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value)} is not a plain value")


def forget_later_lines(path: Path, step: int) -> None:
    """Remove the lines after ``step`` from a JSON lines file, as the resumed run will write them again."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    if len(kept) < len(lines):
        with whole_file(path, encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line).get("step", 0)
    except (ValueError, AttributeError):
        return float("inf")  # a line cut off by a kill
