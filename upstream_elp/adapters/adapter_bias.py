"""AdapterBias: one learned vector per layer, added to each frame with its own factor (arXiv 2210.06175)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Init, Layers, PerLayer
from upstream_elp.adapters.networks import add_to_output, bert_linear
from upstream_elp.adapters.primitives import InputTap
from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class AdapterBias(PerLayer):
    """AdapterBias: ``v * alpha`` is added to the FFN's output, with one learned vector v and one factor per frame."""

    layers: Layers = "all"
    input: Literal["hidden", "output"] = "hidden"
    """What ``alpha`` is a linear function of: ``hidden``, the FFN's activations (as coded for arXiv 2210.06175), or
    ``output``, the FFN's output (as in the AdapterBias paper)."""
    init: Init = "reference"
    """``reference``: v = 1, alpha's weights N(0, 0.02), its bias 0 (our reading). ``zero``: v = 0, an exact identity.
    Before a LayerNorm, v = 1 is an identity too, up to rounding: the norm removes the mean, so alpha has no gradient at
    first."""

    @property
    def moves_at_init(self) -> float:
        """One number, about 0.02 times the norm of the activations, is added to every value of a frame."""
        return 0.0 if self.init == "zero" else 0.25

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        width = model.ffn if self.input == "hidden" else model.dim
        return len(resolve_layers(self.layers, model.layers)) * (model.dim + width + 1)

    def inject(self, target: Target) -> None:
        """Put a shift next to the dropout of each selected FFN output."""
        for index in target.select(self.layers):
            second = target.layer(index).get_submodule(target.family.fc2)
            tap = InputTap() if self.input == "hidden" else None
            width = target.dim if tap is None else second.in_features
            shift = FrameShift(target.dim, width, tap=tap, init=self.init)
            add_to_output(target, "adapter_bias", index, "ffn", shift)
            if tap is not None:
                second.register_forward_pre_hook(tap)


class FrameShift(nn.Module):
    """AdapterBias: ``v * alpha(h)``, where h is the tapped input of the FFN's second matrix or the FFN's output.

    Args:
        dim: width of the block's output.
        width: width of alpha's input.
        tap: source of h; None for the output itself.
        init: ``reference`` (v = 1) or ``zero`` (v = 0, which adds nothing).

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(self, dim: int, width: int, *, tap: InputTap | None = None, init: str = "reference") -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(dim) if init == "zero" else torch.ones(dim))
        self.alpha = bert_linear(width, 1)
        self.tap = tap

    def forward(self, f: Tensor) -> Tensor:
        seen = f if self.tap is None else self.tap.take()
        return self.alpha(seen) * self.vector  # (..., 1) * (dim,)
