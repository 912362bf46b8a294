"""LoRA: low-rank updates of frozen weights, as parametrizations.

A weight is parametrized and its layer is not wrapped, because S3PRL's attention reads ``q_proj.weight`` and never calls
``q_proj``: a wrapper's forward would not run.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from upstream_elp.adapters.contract import Switch, Target
from upstream_elp.adapters.options import LoRA


class LowRankUpdate(Switch):
    """Parametrization ``W + scale * B A``, switched off ``W`` itself.

    A is drawn like loralib's and torch's linear layers, uniform within 1 / sqrt(fan-in) (Kaiming with a = sqrt 5), and
    B is zero.

    Args:
        weight: the frozen weight, (out_dim, in_dim).
        rank: of the update.
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


def inject_lora(target: Target, options: LoRA) -> None:
    """Parametrize the selected layers' target weights."""
    for index, rank in options.ranks(target.injection.layers).items():
        for name in options.targets:
            attribute = getattr(target.family, name)
            linear = target.layer(index).get_submodule(attribute)
            update = LowRankUpdate(linear.weight, rank, scale=options.alpha / rank)
            parametrize.register_parametrization(linear, "weight", update)
            path = f"{target.layer_path(index)}.{attribute}.parametrizations.weight.0"
            target.declare_module("lora", f"{index}.{name}", path)
