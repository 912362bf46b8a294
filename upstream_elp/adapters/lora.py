"""LoRA: low-rank updates of frozen weights, as parametrizations.

The weight is parametrized instead of wrapping its layer, because S3PRL's attention reads ``q_proj.weight`` and never
calls ``q_proj``: the forward of a wrapper would not run.

Where the layer is called, or our own attention applies it, the backward pass computes the gradients of B and A from the
layer's input and the gradient of its output. The gradient of the whole weight, a third of the arithmetic of the layer,
is computed only where other code reads the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.adapters.kinds import Counts, Layers, check_counts
from upstream_elp.adapters.primitives import Mixin, mix_in
from upstream_elp.adapters.selection import resolve_sizes
from upstream_elp.backbones.architecture import Architecture
from upstream_elp.backbones.attention import OwnProduct
from upstream_elp.base.errors import ElpError

Linear = Literal["q", "k", "v", "out", "fc1", "fc2"]


@dataclass(frozen=True)
class LoRA(Method):
    """LoRA: ``W + (alpha / rank) B A`` replaces the frozen weight W; B starts at zero, an exact identity."""

    mergeable: ClassVar[bool] = True

    layers: Layers = "all"
    targets: list[Linear] = field(default_factory=lambda: ["q", "v"])
    """Weights to change, out of the attention's four projections and the FFN's two matrices."""
    rank: Counts = 8
    """Rank of the update: the same for all layers, or one per selection, such as ``{":6": 4, "top:6": 8}``."""
    alpha: float = 1.0
    """The update is scaled by alpha / rank, where rank is that of the layer; 1 is loralib's default."""

    def ranks(self, layers: int, *, where: str = "method") -> dict[int, int]:
        """Return the rank by selected layer, for a model of ``layers`` layers.

        Raises:
            ElpError: an option of the method ``where`` does not fit; the message names it.
        """
        return resolve_sizes(self.rank, self.layers, layers, where=where, key="rank")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that cannot fit any model."""
        check_counts(self.rank, f"{where}.rank")
        if not 0 < self.alpha < math.inf:
            raise ElpError(f"{where}.alpha must be finite and positive, but is {self.alpha}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or the rank does not fit ``layers`` layers of width ``dim``."""
        largest = max(self.ranks(layers, where=where).values())
        if largest > dim:
            raise ElpError(f"{where}.rank must be at most {dim}, the model's width, but is {largest}")

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        widths = {"fc1": model.dim + model.ffn, "fc2": model.dim + model.ffn}
        each = sum(widths.get(target, 2 * model.dim) for target in self.targets)
        return sum(self.ranks(model.layers).values()) * each

    def inject(self, target: Target) -> None:
        """Parametrize the target weights of the selected layers."""
        for index, rank in self.ranks(target.injection.layers).items():
            for name in self.targets:
                attribute = getattr(target.family, name)
                linear = target.layer(index).get_submodule(attribute)
                update = LowRankUpdate(linear.weight, rank, scale=self.alpha / rank)
                if type(linear).forward is nn.Linear.forward and not parametrize.is_parametrized(linear):
                    mix_in(linear, LowRankLinear)
                parametrize.register_parametrization(linear, "weight", update)
                path = f"{target.layer_path(index)}.{attribute}.parametrizations.weight.0"
                target.declare_module("lora", f"{index}.{name}", path)


class LowRankUpdate(Switch):
    """Parametrization ``W + scale * B A``, or ``W`` itself when switched off.

    A is initialised as in loralib and in torch's linear layers, uniform within 1 / sqrt(fan-in) (Kaiming with
    a = sqrt 5), and B is zero.

    Args:
        weight: the frozen weight, (out_dim, in_dim).
        rank: rank of the update.
        scale: factor of the update, alpha / rank.
    """

    def __init__(self, weight: Tensor, rank: int, *, scale: float) -> None:
        super().__init__()
        out_dim, in_dim = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, in_dim))
        self.up = nn.Parameter(weight.new_zeros(out_dim, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        if not self.enabled:
            return weight
        return torch.addmm(weight, self.up, self.down, alpha=self.scale)


class LowRankLinear(OwnProduct, Mixin):
    """Mixed into a linear layer before its weight is parametrized: the backward pass of :class:`LowRankProduct`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, (..., in_dim) to (..., out_dim)."""
        weight = self.weight
        if weight.requires_grad:
            return self.product(x, weight, self.bias)
        return F.linear(x, weight, self.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply the layer with its trained weight, W + scale * B A."""
        chain = self.parametrizations["weight"]
        if len(chain) > 1 or not isinstance(chain[0], LowRankUpdate) or chain.original.requires_grad:
            return F.linear(x, weight, bias)
        up, down = chain[0].up.to(weight.dtype), chain[0].down.to(weight.dtype)
        if torch.is_autocast_enabled(x.device.type):  # which casts inside a function would be hidden from the graph
            x, bias = x.to(weight.dtype), None if bias is None else bias.to(weight.dtype)
        return LowRankProduct.apply(x, weight, bias, up, down, chain[0].scale)


class LowRankProduct(torch.autograd.Function):
    """``F.linear`` with the weight V = W + s B A, without the gradient of V.

    With input x and the gradient g of the output, of shapes (rows, in_dim) and (rows, out_dim), the gradient of V would
    be g' x. Those of B and A are s g' (x A') and s (g B)' x, and need no product of the size of V.

    Args of ``apply``:
        x: (..., in_dim).
        weight: V, (out_dim, in_dim); its own graph only matters for second derivatives.
        bias: (out_dim,) or None.
        up: B, (out_dim, rank).
        down: A, (rank, in_dim).
        scale: s.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, up: Tensor, down: Tensor, scale: float) -> Tensor:
        """Return V applied to x, (..., out_dim)."""
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the backward pass needs."""
        x, weight, _, up, down, ctx.scale = inputs
        ctx.save_for_backward(x, weight, up, down)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, bias, B and A."""
        with torch.autocast(gradient.device.type, enabled=False):
            return _gradients(gradient, *ctx.saved_tensors, scale=ctx.scale, needed=ctx.needs_input_grad)


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, up: Tensor, down: Tensor, *, scale: float, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    flat = gradient.reshape(-1, gradient.shape[-1])  # (rows, out_dim)
    rows = x.reshape(-1, x.shape[-1])  # (rows, in_dim)
    d_x = (flat @ weight).view(x.shape) if needed[0] else None
    d_bias = flat.sum(0) if needed[2] else None
    d_up = scale * (flat.t() @ (rows @ down.t())) if needed[3] else None
    d_down = scale * ((flat @ up).t() @ rows) if needed[4] else None
    return d_x, None, d_bias, d_up, d_down, None
