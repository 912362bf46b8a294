"""Prefix tuning: learned keys and values in the attention of encoder layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upstream_elp.adapters.attention import give_prefix
from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Counts, Layers, VectorsPerLayer
from upstream_elp.adapters.prefix import Prefix
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class PrefixKV(VectorsPerLayer):
    """Prefix tuning: learned keys and values without positions in the attention of each layer."""

    length: Counts = 10
    """Number of keys and of values per layer: the same for all layers, or one per selection."""
    layers: Layers = "all"
    init_std: float = 0.02
    """Standard deviation of the initial keys and values (our reading)."""

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return 2 * sum(self.lengths(model.layers).values()) * model.dim

    def inject(self, target: Target) -> None:
        """Add learned keys and values to the attention of each selected layer."""
        for index, length in self.lengths(target.injection.layers).items():
            give_prefix(target, "prefix_kv", index, LearnedKeysValues(length, target.dim, std=self.init_std))


class LearnedKeysValues(Prefix):
    """Learned keys and values without positions, in the space of the attention's projected keys and values.

    Args:
        length: number of keys and of values.
        dim: width of the encoder.
        std: standard deviation of the initial keys and values.
    """

    def __init__(self, length: int, dim: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(length, dim) * std)
        self.values = nn.Parameter(torch.randn(length, dim) * std)

    def forward(self, attention: nn.Module) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, dim)."""
        return self.keys, self.values
