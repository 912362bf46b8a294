"""Options of the methods that change the backbone's own tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upstream_elp.adapters.options.kinds import Block, Counts, Layers, Linear, PerLayer, Scope, check_counts
from upstream_elp.adapters.selection import resolve_layers, resolve_sizes
from upstream_elp.base.errors import ElpError

if TYPE_CHECKING:
    from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class LoRA:
    """LoRA: ``W + (alpha / rank) B A`` in place of the frozen weights W; B starts at zero, an exact identity."""

    layers: Layers = "all"
    targets: list[Linear] = field(default_factory=lambda: ["q", "v"])
    """Weights that are changed: the attention's four projections and the FFN's two matrices."""
    rank: Counts = 8
    """The same everywhere, or by layer, such as ``{":6": 4, "top:6": 8}``."""
    alpha: float = 1.0
    """The update is scaled by alpha / rank, with the layer's own rank; 1 is loralib's default."""

    def ranks(self, layers: int, *, where: str = "method") -> dict[int, int]:
        """Selected layer to rank, in a model of ``layers`` layers.

        Raises:
            ElpError: naming the option of the method ``where`` that does not fit.
        """
        return resolve_sizes(self.rank, self.layers, layers, where=where, key="rank")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        check_counts(self.rank, f"{where}.rank")
        if not 0 < self.alpha < math.inf:
            raise ElpError(f"{where}.alpha must be a finite number and positive, got {self.alpha}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or the rank does not fit ``layers`` layers of width ``dim``."""
        largest = max(self.ranks(layers, where=where).values())
        if largest > dim:
            raise ElpError(f"{where}.rank is {largest}, more than the model's width of {dim}")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        widths = {"fc1": model.dim + model.ffn, "fc2": model.dim + model.ffn}
        each = sum(widths.get(target, 2 * model.dim) for target in self.targets)
        return sum(self.ranks(model.layers).values()) * each


@dataclass(frozen=True)
class LayerNorms(PerLayer):
    """Trained copies of encoder layers' LayerNorms, put in place of the frozen ones."""

    layers: Layers = "all"
    norms: list[Block] = field(default_factory=lambda: ["attention", "ffn"])

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * len(self.norms) * 2 * model.dim


@dataclass(frozen=True)
class Biases(PerLayer):
    """BitFit: trained copies of all biases of encoder layers, those of the layer norms included.

    WavLM's layers have one more than HuBERT's, that of the gate of the relative positions.
    """

    layers: Layers = "all"

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * model.layer_biases


@dataclass(frozen=True)
class Encoder(PerLayer):
    """Fine-tuning in place: of encoder layers alone, or with what stands around them."""

    layers: Layers = "all"
    scope: Scope = "layers"
    """``layers``: CNN, projection, positional convolution and the encoder's own norm stay frozen. ``no_cnn``: only the
    CNN (and the layers that are not selected) stay frozen. ``all``: the CNN is trained as well."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        around = 0 if self.scope == "layers" else model.front_parameters
        cnn = model.cnn_parameters if self.scope == "all" else 0
        return model.encoder_parameters(resolve_layers(self.layers, model.layers)) + around + cnn
