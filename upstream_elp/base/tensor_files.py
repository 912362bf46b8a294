"""Safetensors files with a known sha256, read without running anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.base.foreign import recognised

AGAIN = "copy or export the adapter again"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors (or none at all) and return the file's sha256.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # raised if the disk is full
        raise OSError(" ".join(str(error).split())) from error
    return sha256_of(path)


def read_tensors(path: Path, sha256: str, *, said_in: str) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Args:
        path: the file.
        sha256: the expected sha256 of its bytes.
        said_in: the file that states this sha256.

    Raises:
        ElpError: the file is missing, truncated, unreadable, or not the one that was written.
    """
    _check_there(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if found := recognised(path):
            raise ElpError(f"{path} is not a readable safetensors file: {found}") from error
        reason = " ".join(str(error).split())
        raise ElpError(f"{path} is not a readable safetensors file ({reason}); {AGAIN}") from error
    check_sha256(path, sha256, said_in=said_in)
    return tensors


def check_sha256(path: Path, sha256: str, *, said_in: str) -> None:
    """Compare a file with the sha256 that ``said_in`` states.

    Raises:
        ElpError: the file is missing, or not the one that was written.
    """
    _check_there(path)
    if sha256_of(path) != sha256:
        if found := recognised(path):
            raise ElpError(f"{path} is not a readable safetensors file: {found}")
        raise ElpError(f"{path} is damaged or was changed: its sha256 is not the one in {said_in}; {AGAIN}")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ElpError(f"{path.parent} has no {path.name}; {AGAIN}")
