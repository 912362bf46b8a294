"""Random backbones in S3PRL's own checkpoint formats and in Hugging Face's, so that everything runs without a download.

The weights come from S3PRL's model classes and a seed: same arguments, same file, byte for byte.
"""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from upstream_elp.backbones.huggingface import write_hugging_face
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, sha256_of_rest, whole_file, whole_folder
from upstream_elp.mini.families import build_checkpoint, build_hugging_face
from upstream_elp.mini.sizes import HUGGING_FACE_FAMILIES, NARROW_CONV, BackboneShape, ConvLayers

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
        return (_save_folder if family in HUGGING_FACE_FAMILIES else _save_file)(shape, seed, Path(path))
    except OSError as error:
        raise ElpError(
            f"cannot write the backbone {path}: {error.strerror or error}; choose a writable place"
        ) from error


def count_parameters(path: str | os.PathLike[str]) -> int:
    """Count the numbers stored in a checkpoint of any family, pre-training head included."""
    if Path(path).is_dir():
        weights = load_file(Path(path) / WEIGHT_FILE)
    else:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        weights = checkpoint["model"] if "model" in checkpoint else checkpoint["model_weight"]
    return sum(tensor.numel() for tensor in weights.values() if isinstance(tensor, torch.Tensor))


def parse_conv(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read waveform layers from text such as ``[(48, 10, 5), (64, 3, 2)]`` (literals only, nothing is evaluated)."""
    try:
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError) as error:
        raise ElpError(f"conv {text!r} is not a list of (channels, kernel, stride)") from error


def _save_file(shape: BackboneShape, seed: int, path: Path) -> Path:
    if path.exists() and not path.is_file():
        raise _taken(path)
    with whole_file(path, "w+b") as stream:  # a stream, not a name: the file's name would be part of its bytes
        torch.save(build_checkpoint(shape, seed=seed), stream)
        stream.seek(0)
        if path.exists() and sha256_of_rest(stream) != sha256_of(path):
            raise _taken(path)
    return path


def _save_folder(shape: BackboneShape, seed: int, path: Path) -> Path:
    def fill(folder: Path) -> None:
        write_hugging_face(build_hugging_face(shape, seed=seed), folder, normalize=shape.normalize)

    if path.exists() and not path.is_dir():
        raise _taken(path)
    if path.is_dir() and any(path.iterdir()):
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as again:
            fill(Path(again))
            if _sums(path) != _sums(Path(again)):
                raise _taken(path)
        return path
    with whole_folder(path) as folder:
        fill(folder)
    return path


def _taken(path: Path) -> ElpError:
    return ElpError(f"{path} exists and is not what these options give; name another place or move it")


def _sums(folder: Path) -> dict[str, str]:
    """sha256 by name; a folder inside has none."""
    return {path.name: sha256_of(path) if path.is_file() else "" for path in folder.iterdir()}
