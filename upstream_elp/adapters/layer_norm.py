"""Train the layer norms of encoder layers, as copies that can be switched off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Block, Layers, PerLayer
from upstream_elp.adapters.primitives import train_copy
from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class LayerNorms(PerLayer):
    """Trained copies of the encoder layers' LayerNorms, which replace the frozen ones."""

    mergeable: ClassVar[bool] = True

    layers: Layers = "all"
    norms: list[Block] = field(default_factory=lambda: ["attention", "ffn"])
    """Blocks whose LayerNorm is trained."""

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * len(self.norms) * 2 * model.dim

    def inject(self, target: Target) -> None:
        """Replace the weights and biases of the selected LayerNorms by trained copies."""
        for index in target.select(self.layers):
            for block in self.norms:
                attribute = getattr(target.family, f"{block}_norm")
                for tensor in ("weight", "bias"):
                    name = f"{index}.{block}.{tensor}"
                    train_copy(target, "layer_norm", name, index, f"{attribute}.{tensor}")
