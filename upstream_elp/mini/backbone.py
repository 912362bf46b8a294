"""Random backbones in S3PRL's own checkpoint formats and in Hugging Face's, so that everything runs without a download.

The weights come from S3PRL's model classes and a seed: same arguments, same file, byte for byte.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import Family
from upstream_elp.backbones.shapes import BackboneShape, ConvLayers, require_choice
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, umask
from upstream_elp.mini.sizes import NARROW_CONV

WEIGHT_FILE = "model.safetensors"


def write_backbone(
    path: str | os.PathLike[str],
    *,
    family: str = "wavlm",
    layers: int = 4,
    dim: int = 256,
    ffn: int | None = None,
    heads: int = 4,
    conv: ConvLayers | None = None,
    conv_bias: bool = False,
    layer_norm_first: bool = False,
    extractor_mode: str = "default",
    normalize: bool = False,
    conv_pos: int = 128,
    conv_pos_groups: int = 16,
    conv_pos_depth: int = 1,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    num_buckets: int = 320,
    max_distance: int = 800,
    final_dim: int | None = None,
    targets: int = 504,
    seed: int = 0,
) -> Path:
    """Write a random backbone that S3PRL's `<family>_local` loads (with `weights_only=True`), and return its path.

    Args:
        path: the file to write, for the families `hf_*` the folder; it appears whole or not at all.
        family: one of :data:`upstream_elp.mini.sizes.FAMILIES`.
        layers: number of Transformer layers.
        dim: width of the hidden states.
        ffn: inner width of the feed-forward blocks; 4 x dim by default.
        heads: attention heads; must divide `dim`.
        conv: (channels, kernel, stride) of each waveform layer; by default a narrow stack with a total stride of 320,
            which S3PRL's own experts report whatever the file says (ours report the file's).
        conv_bias: whether the waveform layers have biases.
        layer_norm_first: pre-norm (Large) instead of post-norm (Base) layers.
        extractor_mode: `default` (one group norm, Base) or `layer_norm` (a layer norm per waveform layer, Large).
        normalize: whether the expert normalises each waveform to zero mean and unit variance.
        conv_pos: kernel of the positional convolution, in frames.
        conv_pos_groups: groups of the positional convolution; must divide `dim`.
        conv_pos_depth: number of positional convolutions that share the kernel (data2vec).
        dropout: dropout after attention and feed-forward blocks.
        attention_dropout: dropout of the attention weights.
        num_buckets: relative position buckets (WavLM).
        max_distance: largest distinguished distance in frames (WavLM).
        final_dim: width of the pre-training projection, unused downstream; min(256, dim) by default.
        targets: number of pre-training classes (HuBERT), unused downstream.
        seed: of all weights.

    Raises:
        ElpError: a value is not possible, or `path` holds something else already; the sentence names it.
    """
    require_choice("family", family, tuple(families()))
    conv = NARROW_CONV if conv is None else conv
    shape = BackboneShape(
        family=family,
        layers=layers,
        dim=dim,
        ffn=4 * dim if ffn is None else ffn,
        heads=heads,
        conv=tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in conv),
        conv_bias=conv_bias,
        layer_norm_first=layer_norm_first,
        extractor_mode=extractor_mode,
        normalize=normalize,
        conv_pos=conv_pos,
        conv_pos_groups=conv_pos_groups,
        conv_pos_depth=conv_pos_depth,
        dropout=dropout,
        attention_dropout=attention_dropout,
        num_buckets=num_buckets,
        max_distance=max_distance,
        final_dim=min(256, dim + dim % 2) if final_dim is None else final_dim,
        targets=targets,
    )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return _save(families()[family], shape, seed, Path(path))
    except OSError as error:
        raise ElpError(
            f"cannot write the backbone {path}: {error.strerror or error}; choose a writable place"
        ) from error


def count_parameters(path: str | os.PathLike[str]) -> int:
    """Count the numbers stored in a checkpoint of any family, pre-training head included."""
    if Path(path).is_dir():
        return _numbers(load_file(Path(path) / WEIGHT_FILE))
    return _numbers(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def _numbers(content: Any) -> int:
    """How many numbers there are in tensors, in mappings at any depth."""
    if isinstance(content, torch.Tensor):
        return content.numel()
    return sum(map(_numbers, content.values())) if isinstance(content, Mapping) else 0


def parse_conv(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read waveform layers from text such as ``[(48, 10, 5), (64, 3, 2)]`` (literals only, nothing is evaluated)."""
    try:
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError) as error:
        raise ElpError(f"conv {text!r} is not a list of (channels, kernel, stride)") from error


def _save(family: Family, shape: BackboneShape, seed: int, path: Path) -> Path:
    """Write the backbone next to ``path`` and move it there; what is there already must be the same."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        family.write(made, shape, seed)
        if path.exists() and not (path.is_dir() and made.is_dir() and not any(path.iterdir())):
            if _sums(path) != _sums(made):
                raise _taken(path)
        else:
            for file in made.iterdir() if made.is_dir() else ():
                file.chmod(0o666 & ~umask())  # safetensors makes 0600
            made.replace(path)
    return path


def _taken(path: Path) -> ElpError:
    return ElpError(f"{path} exists and is not what these options give; name another place or move it")


def _sums(path: Path) -> dict[str, str]:
    """sha256 of a file, or of a folder's files by name; a folder inside it has none."""
    files = path.iterdir() if path.is_dir() else [path]
    return {file.relative_to(path).name: sha256_of(file) if file.is_file() else "" for file in files}
