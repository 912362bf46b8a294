"""Tiny backbones for tests: S3PRL's real classes and file formats, at a width that runs in milliseconds."""

import os
import tempfile
from functools import cache
from pathlib import Path

import pytest

import upstream_elp
from upstream_elp.mini.backbone import write_backbone

#: total stride 320, receptive field 400 samples, as in the full-size models
TINY_CONV = ((8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2))
#: (family, pre-norm?, layer-norm front end?) of every backbone that the laws are checked on: Base-like and Large-like
BACKBONES = {
    "wavlm-base": ("wavlm", False, False),
    "wavlm-large": ("wavlm", True, True),
    "hubert-base": ("hubert", False, False),
    "hubert-large": ("hubert", True, True),
    "wav2vec2-base": ("wav2vec2", False, False),
    "wav2vec2-large": ("wav2vec2", True, True),
    # data2vec's Base has layer norms in the front end; both have five small positional convolutions
    "data2vec-base": ("data2vec", False, True),
    "data2vec-large": ("data2vec", True, True),
    "unispeech_sat-base": ("unispeech_sat", False, False),
    "unispeech_sat-large": ("unispeech_sat", True, True),
    "hf_wavlm-base": ("hf_wavlm", False, False),
    "hf_wavlm-large": ("hf_wavlm", True, True),
    "hf_hubert-base": ("hf_hubert", False, False),
    "hf_hubert-large": ("hf_hubert", True, True),
    "hf_wav2vec2-base": ("hf_wav2vec2", False, False),
    "hf_wav2vec2-large": ("hf_wav2vec2", True, True),
}
#: families beside WavLM, HuBERT and wav2vec 2.0 in S3PRL's format; the laws run over them with `-m slow`
SHARED = [name for name in BACKBONES if name.startswith(("data2vec", "unispeech_sat", "hf_"))]
LAW_BACKBONES = [pytest.param(name, marks=pytest.mark.slow) if name in SHARED else name for name in BACKBONES]
#: those in S3PRL's own format
S3PRL_STYLE = [name for name in BACKBONES if not name.startswith("hf_")]
#: those where an utterance sees its padding before the encoder layers: through a group norm over time, or in data2vec
#: through several positional convolutions, the first of which fills the padding
SEE_PADDING = [name for name, (family, _, layers) in BACKBONES.items() if not layers or family == "data2vec"]


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
    """Return a random backbone's file, made once per session; Large-like ones also normalise the waveform.

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
    return write_backbone(
        path,
        family=family,
        layers=layers,
        dim=dim,
        heads=heads,
        conv=TINY_CONV,
        layer_norm_first=pre_norm,
        extractor_mode="layer_norm" if layer_norm_front else "default",
        normalize=layer_norm_front,
        conv_pos=16,
        conv_pos_depth=5 if family == "data2vec" else 1,
        conv_pos_groups=4,
        num_buckets=32,
        max_distance=64,
        dropout=dropout,
        attention_dropout=dropout,
        targets=20,
        seed=seed,
    )
