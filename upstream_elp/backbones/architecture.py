"""Architectures of the named backbones: shapes and parameter counts, without torch and without weights."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from upstream_elp.backbones.families import families
from upstream_elp.base.errors import ElpError

CONV = ((512, 10), *[(512, 3)] * 4, *[(512, 2)] * 2)
"""Channels and kernel of each convolution of the waveform front end."""
POSITION_KERNEL, POSITION_GROUPS = 128, 16
DATA2VEC_POSITIONS = (95, 5)
"""data2vec's kernel and the number of convolutions that share it (fairseq's configuration of data2vec)."""
WAVLM_BUCKETS, WAVLM_GATES = 320, 8


@dataclass(frozen=True)
class Architecture:
    """One named backbone, without the parts that only pre-training uses (quantizer, targets, final projections)."""

    name: str
    family: str
    layers: int
    dim: int
    ffn: int
    heads: int
    front_norm: str
    """``group``: one GroupNorm in the first convolution; ``layer``: a LayerNorm in each convolution."""
    conv_bias: bool
    pre_norm: bool

    @property
    def gated(self) -> bool:
        """Whether the attention has WavLM's gated relative positions."""
        return families()[self.family].gated

    @property
    def cnn_dim(self) -> int:
        """Channels of the CNN features."""
        return CONV[-1][0]

    @property
    def layer_parameters(self) -> int:
        """Parameters of one encoder layer, without WavLM's shared table of position biases."""
        attention = 4 * (self.dim**2 + self.dim)
        feed_forward = 2 * self.dim * self.ffn + self.ffn + self.dim
        norms = 4 * self.dim
        return attention + feed_forward + norms + (self._gate_parameters if self.gated else 0)

    @property
    def _gate_parameters(self) -> int:
        """Parameters of WavLM's gate: a linear layer from the head's width to 8, and one constant per head."""
        return self.dim // self.heads * WAVLM_GATES + WAVLM_GATES + self.heads

    def encoder_parameters(self, layers: tuple[int, ...]) -> int:
        """Return the parameters of some encoder layers; WavLM's table of position biases belongs to layer 0."""
        shared = WAVLM_BUCKETS * self.heads if self.gated and 0 in layers else 0
        return len(layers) * self.layer_parameters + shared

    @property
    def layer_biases(self) -> int:
        """Values in the biases of one encoder layer, including the layer norms."""
        gate = WAVLM_GATES if self.gated else 0
        return 4 * self.dim + self.ffn + self.dim + 2 * self.dim + gate

    @property
    def cnn_block_parameters(self) -> list[int]:
        """Parameters of each block of the waveform front end: a convolution and its norm."""
        before = (1, *[channels for channels, _ in CONV[:-1]])
        counts = []
        for index, ((channels, kernel), c) in enumerate(zip(CONV, before, strict=True)):
            norm = 2 * channels if self.front_norm == "layer" or index == 0 else 0
            counts.append(kernel * c * channels + (channels if self.conv_bias else 0) + norm)
        return counts

    @property
    def cnn_parameters(self) -> int:
        """Parameters of the waveform front end."""
        return sum(self.cnn_block_parameters)

    @property
    def front_parameters(self) -> int:
        """Parameters between the CNN and the encoder layers, plus the encoder's own norm."""
        projection = 2 * self.cnn_dim + self.cnn_dim * self.dim + self.dim
        return projection + self._position_parameters + 2 * self.dim

    @property
    def _position_parameters(self) -> int:
        """Parameters of the positional convolution with weight norm, or of data2vec's stack without it."""
        each = self.dim * self.dim // POSITION_GROUPS
        if families()[self.family].stacked_positions:
            kernel, depth = DATA2VEC_POSITIONS
            return depth * (each * (kernel // depth) + self.dim)
        return each * POSITION_KERNEL + POSITION_KERNEL + self.dim

    @property
    def total(self) -> int:
        """Parameters of the whole backbone, including the mask vector of pre-training."""
        layers = self.encoder_parameters(tuple(range(self.layers)))
        return self.cnn_parameters + self.front_parameters + self.dim + layers


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).with_name("backbones.yaml")).read_text(encoding="utf-8"))


def backbone_names() -> list[str]:
    """Return the S3PRL hub names of the backbones that have an ``elp_`` upstream."""
    return list(_table()["names"])


def backbone_family(name: str) -> str:
    """Return the family of a named backbone."""
    return architecture(name).family


def other_entries() -> list[dict[str, Any]]:
    """Return S3PRL's other entries: ``names`` (file patterns), ``why``, and ``through`` if one of ours takes them."""
    return _table()["others"]


def other_entry(name: str) -> dict[str, Any] | None:
    """Return the table's row for an S3PRL entry that is not a named backbone; None if only the last pattern fits."""
    name = name.removeprefix("elp_")
    fitting = (entry for entry in other_entries() if any(fnmatchcase(name, pattern) for pattern in entry["names"]))
    found = next(fitting)  # the last pattern fits everything
    return None if found["names"] == ["*"] else found


def architecture(name: str) -> Architecture:
    """Return the architecture of a named backbone; the prefix ``elp_`` is ignored.

    Raises:
        ElpError: an unknown name.
    """
    entry = _table()["names"].get(name.removeprefix("elp_"))
    if entry is None:
        other = other_entry(name)
        if other is not None and "through" not in other:
            raise ElpError(f"{name} is not supported: {other['why']} (see `elp backbones`)")
        raise ElpError(f"unknown backbone {name!r}; the backbones are: {', '.join(backbone_names())}")
    return Architecture(name=name.removeprefix("elp_"), family=entry["family"], **_table()["shapes"][entry["shape"]])
