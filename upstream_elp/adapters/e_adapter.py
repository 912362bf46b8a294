"""E-adapters: bottlenecks with a LayerNorm at block outputs inside the encoder layers (arXiv 2212.02780)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Activation, Block, Bottlenecked, Init, Layers, Sizes
from upstream_elp.adapters.networks import ACTIVATIONS, reference_init
from upstream_elp.adapters.primitives import output_site
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class EAdapter(Bottlenecked):
    """E-adapters: ``x + LN(W_up act(W_down x))`` inside the encoder layers (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Blocks whose output is adapted, before its residual addition."""
    bottleneck: Sizes = "1/3"
    """Inner width (1/3 of 768 is 256): one size for all layers, or one per selection, such as
    ``{0-5: 64, 6-11: 1/3}``."""
    activation: Activation = "gelu"
    """``gelu``, or ``relu`` as in the reference for SV and ER."""
    init: Init = "reference"
    """``reference``: weights N(0, 1e-3), LayerNorm weight 1. ``zero``: LayerNorm weight 0, an exact identity."""

    @property
    def moves_at_init(self) -> float:
        """An E-adapter adds at most 2 % of its input, which the layers above amplify."""
        return 0.0 if self.init == "zero" else 0.05

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return len(self.sites) * sum(2 * model.dim * size + size + model.dim + 2 * model.dim for size in sizes)

    def inject(self, target: Target) -> None:
        """Put a bottleneck at each selected output site."""
        for index, size in self.sizes(target.injection.layers, target.dim).items():
            for block in self.sites:
                attribute = getattr(target.family, f"{block}_output")
                site = output_site(target.layer(index), attribute)
                site.adapters["e_adapter"] = Bottleneck(
                    target.dim, size, activation=self.activation, init=self.init, eps=target.norm_eps
                )
                path = f"{target.layer_path(index)}.{attribute}.adapters.e_adapter"
                target.declare_module("e_adapter", f"{index}.{block}", path)


class Bottleneck(nn.Module):
    """``E(x) = x + LN(W_up act(W_down x + b_down) + b_up)`` (arXiv 2212.02780; the skip is added after the norm).

    Args:
        dim: width of the block's output.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` (weights N(0, 1e-3), norm weight 1) or ``zero`` (norm weight 0: an exact identity).
        eps: epsilon of the norm; the reference uses its backbone's, 1e-5.

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(
        self, dim: int, bottleneck: int, *, activation: str = "gelu", init: str = "reference", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(bottleneck, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)
        reference_init(self.down)
        reference_init(self.up)
        if init == "zero":
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.up(self.activation(self.down(x))))
