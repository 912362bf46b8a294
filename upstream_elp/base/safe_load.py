"""Loading ``torch.save`` files without running anything in them; any other file is an error in one sentence."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.foreign import recognised

FOREIGN = ("argparse.", "fairseq.", "hydra.", "numpy.", "omegaconf.", "typing.")
"""Packages whose classes training programs store in their checkpoints next to the tensors."""
PLAIN_TYPES = ("bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "str", "tuple")
MOST_CLASSES = 100


class Inert:
    """A stand-in for an object whose class is not loaded: it keeps the object's data and does nothing."""

    def __new__(cls, *args: Any) -> Inert:
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def load_safely(path: str | os.PathLike, *, mmap: bool = False, hint: str = "") -> Any:
    """Load tensors and plain values to the CPU.

    Args:
        path: the file.
        mmap: leave the values of tensors on disk until they are used, if the file's format allows it.
        hint: what the user can do if the file is refused.

    Raises:
        ElpError: not such a file, truncated, or with a Python object in it.
    """
    return _load(path, mmap, hint, [])


def load_inert(path: str | os.PathLike, *, mmap: bool = False, hint: str = "") -> tuple[Any, bool]:
    """Like :func:`load_safely`, with an :class:`Inert` for every object of the packages in :data:`FOREIGN`.

    Returns:
        The content of the file, and whether it contains stand-ins.
    """
    stand_ins: list[tuple[Callable, str]] = []
    while True:
        try:
            return _load(path, mmap, hint, stand_ins), bool(stand_ins)
        except ElpError as error:
            name = _foreign(error.__cause__)
            if name is None or len(stand_ins) == MOST_CLASSES or name in [known for _, known in stand_ins]:
                raise
            stand_ins.append((_mapping if name == "collections.defaultdict" else type("Inert", (Inert,), {}), name))


def why_refused(error: Exception) -> str:
    """Explain why ``torch.load`` raised ``error``; torch's own message is about its options."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return error.strerror or text
    if name := _refused(error):
        return f"it contains the Python object {shown(name)}, and code from a file is never run"
    if "PytorchStreamReader" in text or isinstance(error, OSError):  # of a seek beyond the end
        return "it is cut off or damaged"
    return "it was not written by torch.save"


def _load(path: str | os.PathLike, mmap: bool, hint: str, stand_ins: list[tuple[Callable, str]]) -> Any:
    try:
        zipped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except Exception as error:  # a text file, read as a pickle, raises IndexError, KeyError, struct.error and others
        found = recognised(path)
        reason, hint = found or (why_refused(error), hint)
        problem = f"{path} is not a checkpoint that can be loaded safely: {reason}"
        raise ElpError(f"{problem}; {hint}" if hint else problem) from error


def _refused(error: BaseException | None) -> str | None:
    """Return the name of the class that torch's unpickler refused."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found[1] if found else None


def _foreign(error: BaseException | None) -> str | None:
    """Return that name if an :class:`Inert` may replace the class; torch omits the module of built-in types."""
    name = _refused(error)
    if name in PLAIN_TYPES:
        return f"builtins.{name}"
    return name if name and (name.startswith(FOREIGN) or name == "collections.defaultdict") else None


def _mapping(*_: Any) -> dict[Any, Any]:
    """Replace ``collections.defaultdict``, which the unpickler would not fill."""
    return {}
