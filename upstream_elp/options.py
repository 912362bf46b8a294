"""The methods' options: what a user may say of each, checked against a model and counted from shapes alone.

This module knows neither torch nor S3PRL. A method is one class here, one injector in :mod:`upstream_elp.adapters`, and
one entry in :data:`METHODS` and in :data:`upstream_elp.inject.INJECTORS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from upstream_elp.errors import ElpError
from upstream_elp.layers import resolve_layers, resolve_size

if TYPE_CHECKING:
    from upstream_elp.shapes import Architecture

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.layers.resolve_layers`."""
Size = str | int
"""Absolute, or a fraction of the model's width as in :func:`upstream_elp.layers.resolve_size`."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]


@dataclass(frozen=True)
class EAdapter:
    """E-adapters: ``x + LN(W_up act(W_down x))`` inside the encoder layers (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Outputs that are adapted, each before its residual addition."""
    bottleneck: Size = "1/3"
    """Inner width (1/3 of 768 is 256)."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 1e-3), LayerNorm weight 1. ``zero``: LayerNorm weight 0, an exact identity."""

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.bottleneck, dim, where=f"{where}.bottleneck")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.bottleneck, model.dim)
        each = 2 * model.dim * size + size + model.dim + 2 * model.dim
        return len(resolve_layers(self.layers, model.layers)) * len(self.sites) * each


@dataclass(frozen=True)
class LAdapter:
    """L-adapters: ``LN(act(W x))`` from each encoder layer's output to the head (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    dim: Size = "2/3"
    """Output width (2/3 of 768 is 512)."""
    activation: Activation = "gelu"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.dim, dim, where=f"{where}.dim")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.dim, model.dim)
        return len(resolve_layers(self.layers, model.layers)) * (model.dim * size + size + 2 * size)


@dataclass(frozen=True)
class PAdapter:
    """P-adapter: learned pseudo features beside the CNN features.

    Our reading: arXiv 2407.21066 says only that it appends pseudo features to the CNN features.
    """

    length: int = 10
    """Number of pseudo frames (the prompts of arXiv 2210.06175 have 10)."""
    position: Literal["end", "start"] = "end"
    """``end``: right after each utterance's own last frame; ``start``: before its first."""
    site: Literal["projected", "cnn"] = "projected"
    """``projected``: vectors of the model's width; ``cnn``: of the CNN's, sent through its norm and projection."""
    init_std: float = 0.02

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        if self.length < 1:
            raise ElpError(f"{where}.length must be at least 1, got {self.length}")
        if not 0 <= self.init_std < math.inf:
            raise ElpError(f"{where}.init_std must be a finite number and not negative, got {self.init_std}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Every model has a place for pseudo features."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return self.length * (model.cnn_dim if self.site == "cnn" else model.dim)


@dataclass(frozen=True)
class LayerNorms:
    """Trained copies of encoder layers' LayerNorms, put in place of the frozen ones."""

    layers: Layers = "all"
    norms: list[Block] = field(default_factory=lambda: ["attention", "ffn"])

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * len(self.norms) * 2 * model.dim


@dataclass(frozen=True)
class Encoder:
    """Fine-tuning of encoder layers in place: CNN, projection and positional convolution stay frozen."""

    layers: Layers = "all"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return model.encoder_parameters(resolve_layers(self.layers, model.layers))


METHODS: dict[str, type] = {
    "e_adapter": EAdapter,
    "l_adapter": LAdapter,
    "p_adapter": PAdapter,
    "layer_norm": LayerNorms,
    "encoder": Encoder,
}
"""Method name, which is also the YAML key and the component's name, to its options; in the order of injection."""
