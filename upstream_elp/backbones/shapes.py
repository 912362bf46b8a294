"""The sizes of a random backbone, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from upstream_elp.base.errors import ElpError

EXTRACTOR_MODES = ("default", "layer_norm")

ConvLayers = Sequence[tuple[int, int, int]]

TINY: Mapping[str, Any] = MappingProxyType(
    {
        "layers": 3,
        "dim": 32,
        "ffn": 128,
        "heads": 4,
        # total stride 320, receptive field 400 samples, as in the full-size models
        "conv": ((8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)),
        "conv_bias": False,
        "layer_norm_first": False,
        "extractor_mode": "default",
        "normalize": False,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "conv_pos_depth": 1,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "num_buckets": 32,
        "max_distance": 64,
        "final_dim": 32,
        "targets": 20,
    }
)
"""Fields of :class:`BackboneShape` for a Base-like model that runs in milliseconds; a family's toys differ from it."""


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """Everything that determines a random backbone, apart from the seed."""

    family: str
    layers: int
    """Transformer layers."""
    dim: int
    """Width of the hidden states."""
    ffn: int
    """Inner width of the feed-forward blocks."""
    heads: int
    """Attention heads; must divide ``dim``."""
    conv: tuple[tuple[int, int, int], ...]
    """(channels, kernel, stride) of each waveform layer. S3PRL's own experts report a stride of 320 for any file, ours
    report the file's."""
    conv_bias: bool = False
    """Whether the waveform layers have biases."""
    layer_norm_first: bool = False
    """Pre-norm (Large) instead of post-norm (Base) layers."""
    extractor_mode: str = "default"
    """``default``: one group norm (Base); ``layer_norm``: a layer norm in each waveform layer (Large)."""
    normalize: bool = False
    """Whether the expert normalises each wave to mean 0 and variance 1."""
    conv_pos: int = 128
    """Kernel of the positional convolution, in frames."""
    conv_pos_groups: int = 16
    """Groups of the positional convolution; must divide ``dim``."""
    conv_pos_depth: int = 1
    """Number of positional convolutions that share the kernel (data2vec)."""
    dropout: float = 0.1
    """After attention and feed-forward blocks."""
    attention_dropout: float = 0.1
    """Of the attention weights."""
    num_buckets: int = 320
    """Buckets of relative positions (WavLM)."""
    max_distance: int = 800
    """Largest distance that the buckets distinguish, in frames (WavLM)."""
    final_dim: int
    """Width of the projection that only pre-training uses."""
    targets: int = 504
    """Classes of the pre-training (HuBERT)."""

    def __post_init__(self) -> None:
        require_choice("extractor_mode", self.extractor_mode, EXTRACTOR_MODES)
        positive = ("layers", "dim", "ffn", "heads", "conv_pos", "conv_pos_groups", "conv_pos_depth", "num_buckets")
        for name in (*positive, "final_dim"):
            if getattr(self, name) < 1:
                raise ElpError(f"backbone {name} must be at least 1, but is {getattr(self, name)}")
        for divisor in ("heads", "conv_pos_groups"):
            if self.dim % getattr(self, divisor):
                parts = getattr(self, divisor)
                raise ElpError(f"backbone dim must be a multiple of {divisor} {parts}, but is {self.dim}")
        if not self.conv or min(min(layer) for layer in self.conv) < 1:
            raise ElpError(f"backbone conv must be one or more layers of positive numbers, but is {list(self.conv)}")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise an :class:`ElpError` that lists the choices if ``value`` is not one of them."""
    if value not in choices:
        raise ElpError(f"unknown backbone {name} {value!r}; the choices are: {', '.join(choices)}")
