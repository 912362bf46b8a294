"""What fixes a random backbone: the sizes of a model, without torch."""

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
"""Fields of :class:`BackboneShape` for a model that runs in milliseconds, Base-like; a family's toys differ from it."""


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """Everything that fixes a random backbone; see :func:`upstream_elp.mini.backbone.write_backbone`."""

    family: str
    layers: int
    dim: int
    ffn: int
    heads: int
    conv: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    layer_norm_first: bool
    extractor_mode: str
    normalize: bool
    conv_pos: int
    conv_pos_groups: int
    conv_pos_depth: int
    dropout: float
    attention_dropout: float
    num_buckets: int
    max_distance: int
    final_dim: int
    targets: int

    def __post_init__(self) -> None:
        require_choice("extractor_mode", self.extractor_mode, EXTRACTOR_MODES)
        positive = ("layers", "dim", "ffn", "heads", "conv_pos", "conv_pos_groups", "conv_pos_depth", "num_buckets")
        for name in (*positive, "final_dim"):
            if getattr(self, name) < 1:
                raise ElpError(f"backbone {name} is {getattr(self, name)}; it must be at least 1")
        for divisor in ("heads", "conv_pos_groups"):
            if self.dim % getattr(self, divisor):
                parts = getattr(self, divisor)
                raise ElpError(f"backbone dim {self.dim} is not a multiple of {divisor} {parts}; change one of them")
        if not self.conv or min(min(layer) for layer in self.conv) < 1:
            raise ElpError(f"backbone conv is {list(self.conv)}; it must name at least one layer, in positive numbers")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise an :class:`ElpError` that lists the choices."""
    if value not in choices:
        raise ElpError(f"unknown backbone {name} {value!r}; the choices are: {', '.join(choices)}")
