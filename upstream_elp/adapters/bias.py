"""BitFit: train the biases of encoder layers, as copies that can be switched off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Layers, PerLayer
from upstream_elp.adapters.primitives import train_copy
from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.backbones.architecture import Architecture
from upstream_elp.backbones.family import Family


@dataclass(frozen=True)
class Biases(PerLayer):
    """BitFit: trained copies of all biases of encoder layers, including those of the layer norms.

    WavLM's layers have one bias more than HuBERT's, in the gate of the relative positions.
    """

    conflicts: ClassVar[Mapping[str, str]] = {"layer_norm": "both train the layer norms' biases"}
    mergeable: ClassVar[bool] = True

    layers: Layers = "all"

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * model.layer_biases

    def zero_gradients(self, family: Family) -> tuple[str, ...]:
        """The bias of the keys shifts all scores of a query equally."""
        return family.zero_gradient

    def inject(self, target: Target) -> None:
        """Replace all biases of the selected layers by trained copies, except those in other methods' tensors."""
        declared = target.declared_paths()
        for index in target.select(self.layers):
            for key, _ in list(target.layer(index).named_parameters()):
                if key.endswith("bias") and f"{target.layer_path(index)}.{key}" not in declared:
                    train_copy(target, "bias", f"{index}.{key}", index, key)
