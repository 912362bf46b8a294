"""L-adapters: from the encoder layers' outputs to the head (arXiv 2212.02780)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import ONE_SIZE, Activation, Layers, PerLayer, Size
from upstream_elp.adapters.networks import ACTIVATIONS, reference_init
from upstream_elp.adapters.selection import resolve_layers, resolve_size
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class LAdapter(PerLayer):
    """L-adapters: ``LN(act(W x))`` from each encoder layer's output to the head (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    dim: Size = field(default="2/3", metadata={ONE_SIZE: "the head sees a weighted sum of all layers' outputs"})
    """Output width (2/3 of 768 is 512)."""
    activation: Activation = "gelu"
    """``gelu``, or ``relu`` as in the reference for SV and ER."""

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        super().check(layers, dim, where=where)
        resolve_size(self.dim, dim, where=f"{where}.dim")

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        size = resolve_size(self.dim, model.dim)
        return len(resolve_layers(self.layers, model.layers)) * (model.dim * size + size + 2 * size)

    def inject(self, target: Target) -> None:
        """Add one L-adapter per selected layer to the expert, which applies them to the hidden states."""
        size = resolve_size(self.dim, target.dim)
        layers = target.select(self.layers)
        target.injection.l_layers = layers
        target.expert.l_adapters = nn.ModuleDict(
            {
                str(index): LayerAdapter(target.dim, size, activation=self.activation, eps=target.norm_eps)
                for index in layers
            }
        )
        for index in layers:
            target.declare_module("l_adapter", str(index), f"l_adapters.{index}")


class LayerAdapter(nn.Module):
    """L-adapter: ``L(x) = LN(act(W x + b))`` from one encoder layer's output to the head (arXiv 2212.02780).

    Args:
        dim: width of the encoder.
        out_dim: width that the head sees.
        activation: ``gelu`` or ``relu``.
        eps: epsilon of the norm.

    Shape:
        (batch, frames, dim) to (batch, frames, out_dim).
    """

    def __init__(self, dim: int, out_dim: int, *, activation: str = "gelu", eps: float = 1e-5) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, out_dim)
        self.activation = ACTIVATIONS[activation]()
        self.norm = nn.LayerNorm(out_dim, eps=eps)
        reference_init(self.projection)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.projection(x)))
