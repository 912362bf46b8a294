"""Tiny backbones for tests: S3PRL's real classes and file formats, at a width that runs in milliseconds."""

import os
import tempfile
from functools import cache
from pathlib import Path

import pytest

import upstream_elp
from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import OWN, S3PRL
from upstream_elp.backbones.shapes import TINY, BackboneShape
from upstream_elp.mini.backbone import write_backbone

TINY_CONV = TINY["conv"]


def _shape(family, toy):
    return BackboneShape(family=family.name, **{**TINY, **toy})


#: name to shape of every family's toys; a family of another package that is installed is among them
SHAPES = {
    f"{family.name}-{name}": _shape(family, toy) for family in families().values() for name, toy in family.toys.items()
}
#: (family, pre-norm?, layer-norm front end?) of every backbone that the laws are checked on: Base-like and Large-like
BACKBONES = {
    name: (shape.family, shape.layer_norm_first, shape.extractor_mode == "layer_norm") for name, shape in SHAPES.items()
}
#: families other than WavLM, HuBERT and wav2vec 2.0 in S3PRL's format; the laws run over them with `-m slow`
SHARED = [name for name, shape in SHAPES.items() if shape.family.startswith(("data2vec", "unispeech_sat", "hf_"))]
#: those whose layers are of the same class as HuBERT Base's, which runs by default
SAME_LAYERS = ["hubert-large", "wav2vec2-base", "wav2vec2-large"]
LAW_BACKBONES = [
    pytest.param(name, marks=pytest.mark.slow) if name in [*SHARED, *SAME_LAYERS] else name for name in BACKBONES
]
#: those in S3PRL's own format
S3PRL_STYLE = [name for name, shape in SHAPES.items() if families()[shape.family].format == S3PRL]
#: those whose sizes `Architecture` can count: not those in a format of another package's own
COUNTED = [name for name, shape in SHAPES.items() if families()[shape.family].format != OWN]
#: those where an utterance sees its padding before the encoder layers: through a group norm over time, or in data2vec
#: through several positional convolutions, the first of which fills the padding
SEE_PADDING = [name for name, shape in SHAPES.items() if families()[shape.family].sees_padding(shape)]


def tiny_backbone(
    tmp_dir: str | os.PathLike | None = None,
    family: str = "wavlm",
    *,
    pre_norm: bool = False,
    layer_norm_front: bool = False,
    layers: int = 3,
    dim: int = 32,
    heads: int = 4,
    seed: int = 0,
    dropout: float = 0.1,
) -> Path:
    """Return the file of a random backbone, made once per session; Large-like ones also normalise the waveform.

    Args:
        tmp_dir: where the file goes; None shares one folder per process (do not change a shared file).
        family: as in `upstream_elp.mini.sizes.FAMILIES`; the families `hf_*` are folders.
        pre_norm: layer norms before the blocks, as in Large.
        layer_norm_front: layer norms in the waveform layers, as in Large (the features then do not see padding).
        layers: Transformer layers.
        dim: width.
        heads: attention heads.
        seed: of the weights.
        dropout: of blocks and attention weights.
    """
    folder = str(tmp_dir) if tmp_dir is not None else _shared_folder()
    return _cached(folder, family, pre_norm, layer_norm_front, layers, dim, heads, seed, dropout)


@cache
def _shared_folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="elp-toys-")
    _KEEP.append(folder)  # removed with the process
    return folder.name


_KEEP: list[tempfile.TemporaryDirectory] = []


@cache
def _cached(
    folder: str,
    family: str,
    pre_norm: bool,
    layer_norm_front: bool,
    layers: int,
    dim: int,
    heads: int,
    seed: int,
    dropout: float,
) -> Path:
    name = f"{family}-{'pre' if pre_norm else 'post'}-{'layer' if layer_norm_front else 'group'}"
    path = Path(folder) / f"{name}-{layers}x{dim}-h{heads}-s{seed}-d{dropout}.pt"
    if path.exists():
        return path
    upstream_elp.register()  # transformers imports torchaudio
    depth = families()[family].toys["base"].get("conv_pos_depth", 1)
    given = {"layers": layers, "dim": dim, "ffn": 4 * dim, "heads": heads, "final_dim": min(256, dim + dim % 2)}
    given |= {"dropout": dropout, "attention_dropout": dropout, "conv_pos_depth": depth}
    given |= {"layer_norm_first": pre_norm, "extractor_mode": "layer_norm" if layer_norm_front else "default"}
    return write_backbone(path, family=family, seed=seed, **{**TINY, **given, "normalize": layer_norm_front})
