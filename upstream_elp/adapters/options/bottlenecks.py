"""Options of the methods that add a small network to block or layer outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from upstream_elp.adapters.options.kinds import (
    ONE_SIZE,
    Activation,
    Block,
    Bottlenecked,
    Init,
    Layers,
    PerLayer,
    Size,
    Sizes,
)
from upstream_elp.adapters.selection import resolve_layers, resolve_size

if TYPE_CHECKING:
    from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class EAdapter(Bottlenecked):
    """E-adapters: ``x + LN(W_up act(W_down x))`` inside the encoder layers (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Outputs that are adapted, each before its residual addition."""
    bottleneck: Sizes = "1/3"
    """Inner width (1/3 of 768 is 256), the same everywhere or by layer, such as ``{0-5: 64, 6-11: 1/3}``."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 1e-3), LayerNorm weight 1. ``zero``: LayerNorm weight 0, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit; methods that do not say so do."""
        return self.init == "zero"

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return len(self.sites) * sum(2 * model.dim * size + size + model.dim + 2 * model.dim for size in sizes)


@dataclass(frozen=True)
class LAdapter:
    """L-adapters: ``LN(act(W x))`` from each encoder layer's output to the head (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    dim: Size = field(default="2/3", metadata={ONE_SIZE: "the head sees a weighted sum of all layers' outputs"})
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
class Houlsby(Bottlenecked):
    """Bottlenecks without a LayerNorm, beside a block's dropout: ``dropout(f) + A(f)``, A = ``W_up act(W_down f)``.

    As coded for arXiv 2210.06175: f is the block's output before its dropout, and both stand before the residual sum.
    """

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Outputs that are adapted."""
    bottleneck: Sizes = 32
    """Inner width, the same everywhere or by layer."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 0.02), biases 0 (our reading). ``zero``: W_up 0 as well, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return len(self.sites) * sum(2 * model.dim * size + size + model.dim for size in sizes)


@dataclass(frozen=True)
class AdapterBias(PerLayer):
    """AdapterBias: ``v * alpha`` added to the FFN's output, one learned vector and one number per frame."""

    layers: Layers = "all"
    input: Literal["hidden", "output"] = "hidden"
    """What ``alpha`` is a linear function of: ``hidden``, the FFN's activations (as coded for arXiv 2210.06175), or
    ``output``, the FFN's output (as in AdapterBias's own paper)."""
    init: Init = "reference"
    """``reference``: v = 1, alpha's weights N(0, 0.02), its bias 0 (our reading). ``zero``: v = 0, an exact identity.
    After a LayerNorm v = 1 is one as well, to rounding: the norm takes the mean away, so alpha has no gradient yet."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        width = model.ffn if self.input == "hidden" else model.dim
        return len(resolve_layers(self.layers, model.layers)) * (model.dim + width + 1)


@dataclass(frozen=True)
class Parallel(Bottlenecked):
    """A bottleneck ``W_up act(W_down x)`` of the layer's input x, added to the residual sum at the layer's end.

    As coded for arXiv 2401.02122: in post-norm layers the sum before the final norm, in pre-norm layers the layer's
    output, x being the input before its first norm.
    """

    layers: Layers = "all"
    bottleneck: Sizes = 32
    """Inner width, the same everywhere or by layer."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: PyTorch's default, uniform up to one over the root of the fan-in, as coded. ``zero``: weights
    N(0, 0.02), but W_up and the biases 0, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return sum(2 * model.dim * size + size + model.dim for size in sizes)
