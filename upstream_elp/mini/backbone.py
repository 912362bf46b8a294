"""Random backbones in S3PRL's checkpoint formats and in Hugging Face's, so that everything runs without a download.

The weights come from S3PRL's model classes and a seed: the same arguments give the same file, byte for byte.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from upstream_elp.backbones.families import families
from upstream_elp.backbones.shapes import BackboneShape, require_choice
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, umask
from upstream_elp.mini.sizes import SIZES

WEIGHT_FILE = "model.safetensors"


def write_backbone(path: str | os.PathLike[str], *, family: str = "wavlm", seed: int = 0, **options: Any) -> Path:
    """Write a random backbone that S3PRL's `<family>_local` can load (with `weights_only=True`), and return its path.

    Args:
        path: the file to write, or the folder for the families `hf_*`; it appears whole or not at all.
        family: one of :data:`upstream_elp.mini.sizes.FAMILIES`.
        seed: seed of all weights.
        **options: fields of :class:`BackboneShape`. By default they are those of the size `mini`, `ffn` is 4 x dim, and
            `final_dim` is 256, or less in a narrower model.

    Raises:
        ElpError: an impossible value, which the message names, or `path` exists with other content.
    """
    require_choice("family", family, tuple(families()))
    shape = _shape(family, options)
    return place(Path(path), lambda made: families()[family].write(made, shape, seed))


def _shape(family: str, options: Mapping[str, Any]) -> BackboneShape:
    """Build a shape from the options and the defaults."""
    fields = {**SIZES["mini"], **{name: value for name, value in options.items() if value is not None}}
    dim = fields["dim"]
    conv = tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in fields["conv"])
    return BackboneShape(
        **{"family": family, "ffn": 4 * dim, "final_dim": min(256, dim + dim % 2), **fields, "conv": conv}
    )


def count_parameters(path: str | os.PathLike[str]) -> int:
    """Count the numbers stored in a checkpoint of any family, pre-training head included."""
    if Path(path).is_dir():
        return _numbers(load_file(Path(path) / WEIGHT_FILE))
    return _numbers(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def _numbers(content: Any) -> int:
    """Return how many numbers there are in tensors, in mappings at any depth."""
    if isinstance(content, torch.Tensor):
        return content.numel()
    return sum(map(_numbers, content.values())) if isinstance(content, Mapping) else 0


def parse_conv(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read waveform layers from text such as ``[(48, 10, 5), (64, 3, 2)]`` (literals only, nothing is evaluated)."""
    try:
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError) as error:
        raise ElpError(f"conv must be a list of (channels, kernel, stride), but is {text!r}") from error


def place(path: Path, make: Callable[[Path], None]) -> Path:
    """Let ``make`` write a file or folder next to ``path``, and move it there, whole or not at all.

    Raises:
        ElpError: ``path`` exists with other content, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            make(made)
            _move(made, path)
    except OSError as error:
        if error.errno is None:  # a library that cannot be loaded, not a file that cannot be written
            raise
        raise ElpError(f"cannot write the backbone {path}: {error.strerror}; choose a writable place") from error
    return path


def _move(made: Path, path: Path) -> None:
    if path.exists() and not (path.is_dir() and made.is_dir() and not any(path.iterdir())):
        if _sums(path) != _sums(made):
            raise _taken(path)
        return
    for file in made.iterdir() if made.is_dir() else ():
        file.chmod(0o666 & ~umask())  # safetensors creates files with mode 0600
    made.replace(path)


def _taken(path: Path) -> ElpError:
    return ElpError(f"{path} exists and is not the backbone of these options; name another place or move it")


def _sums(path: Path) -> dict[str, str]:
    """Return the sha256 of a file, or of each file in a folder by name; empty for a folder inside it."""
    files = path.iterdir() if path.is_dir() else [path]
    return {file.relative_to(path).name: sha256_of(file) if file.is_file() else "" for file in files}
