"""LoRA: low-rank updates of frozen weights, as parametrizations.

The weight is parametrized instead of wrapping its layer, because S3PRL's attention reads ``q_proj.weight`` and never
calls ``q_proj``: the forward of a wrapper would not run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.adapters.kinds import Counts, Layers, check_counts
from upstream_elp.adapters.selection import resolve_sizes
from upstream_elp.backbones.architecture import Architecture
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
