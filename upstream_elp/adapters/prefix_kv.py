"""Prefix tuning: learned keys and values in the attention of encoder layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upstream_elp.adapters.attention import Prefix, give_prefix
from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Counts, Layers, VectorsPerLayer
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class PrefixKV(VectorsPerLayer):
    """Prefix tuning: learned keys and values in each layer's attention, without a position."""

    length: Counts = 10
    """Number of keys, and of values, per layer, the same everywhere or by layer."""
    layers: Layers = "all"
    init_std: float = 0.02
    """Standard deviation of the initial ones (our reading)."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return 2 * sum(self.lengths(model.layers).values()) * model.dim

    def inject(self, target: Target) -> None:
        """Give each selected layer's attention learned keys and values."""
        for index, length in self.lengths(target.injection.layers).items():
            give_prefix(target, "prefix_kv", index, LearnedKeysValues(length, target.dim, std=self.init_std))


class LearnedKeysValues(Prefix):
    """Learned keys and values, in the space that the attention's projections lead to, without a position.

    Args:
        length: number of keys and values.
        dim: width of the encoder.
        std: standard deviation of the initial ones.
    """

    def __init__(self, length: int, dim: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(length, dim) * std)
        self.values = nn.Parameter(torch.randn(length, dim) * std)

    def forward(self, attention: nn.Module) -> tuple[Tensor, Tensor]:
        """Keys and values, each (length, dim)."""
        return self.keys, self.values
