"""Load what ``torch.save`` wrote without running anything in it; whatever else a file holds is one sentence."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from typing import Any

import torch

from upstream_elp.errors import ElpError, shown
from upstream_elp.foreign import recognised


def load_safely(path: str | os.PathLike, *, mmap: bool = False, hint: str = "") -> Any:
    """Load tensors and plain values to the CPU.

    Args:
        path: the file.
        mmap: leave the tensors' values on disk until they are used, where the file's format allows it.
        hint: what the user can do about a file that is refused.

    Raises:
        ElpError: not such a file, cut off, or it asks for a Python object.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except Exception as error:  # read as a pickle, a text file raises IndexError, KeyError, struct.error and others
        found = recognised(path)
        reason, hint = found or (why_refused(error), hint)
        problem = f"{path} is not a checkpoint that can be loaded safely: {reason}"
        raise ElpError(f"{problem}; {hint}" if hint else problem) from error


def why_refused(error: Exception) -> str:
    """What is wrong with a file that ``torch.load`` raised ``error`` over; torch's own words are about its options."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return error.strerror or text
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for the Python object {shown(found[1])}, and no code of a file is run"
    if "PytorchStreamReader" in text or isinstance(error, OSError):  # it seeks beyond the end
        return "it is cut off or damaged"
    return "it is no file that torch.save wrote"
