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
"""data2vec's kernel, and the number of convolutions that share it (fairseq's configuration of data2vec)."""
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
    """``group``: one GroupNorm in the first convolution; ``layer``: a LayerNorm in each."""
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
        """WavLM's gated relative position bias: a linear from the head's width to 8, and one constant per head."""
        return self.dim // self.heads * WAVLM_GATES + WAVLM_GATES + self.heads

    def encoder_parameters(self, layers: tuple[int, ...]) -> int:
        """Parameters of the given encoder layers; WavLM's table of position biases belongs to layer 0."""
        shared = WAVLM_BUCKETS * self.heads if self.gated and 0 in layers else 0
        return len(layers) * self.layer_parameters + shared

    @property
    def layer_biases(self) -> int:
        """Values in the biases of one encoder layer, layer norms included."""
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
        """Parameters between the CNN and the encoder layers, and of the encoder's own norm."""
        projection = 2 * self.cnn_dim + self.cnn_dim * self.dim + self.dim
        return projection + self._position_parameters + 2 * self.dim

    @property
    def _position_parameters(self) -> int:
        """Parameters of the positional convolution: with weight norm, or data2vec's stack without."""
        each = self.dim * self.dim // POSITION_GROUPS
        if families()[self.family].stacked_positions:
            kernel, depth = DATA2VEC_POSITIONS
            return depth * (each * (kernel // depth) + self.dim)
        return each * POSITION_KERNEL + POSITION_KERNEL + self.dim

    @property
    def total(self) -> int:
        """Parameters of the whole backbone, the mask vector of pre-training included."""
        layers = self.encoder_parameters(tuple(range(self.layers)))
        return self.cnn_parameters + self.front_parameters + self.dim + layers


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).with_name("backbones.yaml")).read_text(encoding="utf-8"))


def backbone_names() -> list[str]:
    """S3PRL hub names of the backbones that have an ``elp_`` upstream."""
    return list(_table()["names"])


def backbone_family(name: str) -> str:
    """Family of a named backbone."""
    return architecture(name).family


def other_entries() -> list[dict[str, Any]]:
    """S3PRL's other entries: ``names`` (patterns as of files), ``why``, and ``through`` where ours take them."""
    return _table()["others"]


def other_entry(name: str) -> dict[str, Any] | None:
    """What the table says of an entry of S3PRL's that is not a named backbone; None where it names none like it."""
    name = name.removeprefix("elp_")
    fitting = (entry for entry in other_entries() if any(fnmatchcase(name, pattern) for pattern in entry["names"]))
    found = next(fitting)  # the last pattern fits everything
    return None if found["names"] == ["*"] else found


def architecture(name: str) -> Architecture:
    """Architecture of a named backbone; ``elp_`` before the name is ignored.

    Raises:
        ElpError: unknown name.
    """
    entry = _table()["names"].get(name.removeprefix("elp_"))
    if entry is None:
        other = other_entry(name)
        if other is not None and "through" not in other:
            raise ElpError(f"{name} is not supported: {other['why']} (see `elp backbones`)")
        raise ElpError(f"unknown backbone {name!r}; the backbones are: {', '.join(backbone_names())}")
    return Architecture(name=name.removeprefix("elp_"), family=entry["family"], **_table()["shapes"][entry["shape"]])
