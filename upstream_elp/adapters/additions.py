"""Adapters whose output is added beside a block's dropout: Houlsby's bottleneck and AdapterBias (arXiv 2210.06175)."""

import torch
from torch import Tensor, nn

from upstream_elp.adapters.bottleneck import ACTIVATIONS
from upstream_elp.adapters.contract import Target
from upstream_elp.adapters.options import AdapterBias, Houlsby
from upstream_elp.adapters.primitives import InputTap, output_site

BERT_STD = 0.02
"""Standard deviation of fairseq's ``init_bert_params``. Our reading: that it reaches these adapters is not certain."""


def bert_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """A linear layer with weight N(0, 0.02 squared) and bias 0."""
    linear = nn.Linear(in_dim, out_dim)
    nn.init.normal_(linear.weight, std=BERT_STD)
    nn.init.zeros_(linear.bias)
    return linear


class PlainBottleneck(nn.Module):
    """``A(f) = W_up act(W_down f + b_down) + b_up``: no norm, and no skip of its own.

    Args:
        dim: width of the block's output.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` or ``zero`` (W_up zero: adds nothing).

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(self, dim: int, bottleneck: int, *, activation: str = "gelu", init: str = "reference") -> None:
        super().__init__()
        self.down = bert_linear(dim, bottleneck)
        self.activation = ACTIVATIONS[activation]()
        self.up = bert_linear(bottleneck, dim)
        if init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, f: Tensor) -> Tensor:
        return self.up(self.activation(self.down(f)))


class FrameShift(nn.Module):
    """AdapterBias: ``v * alpha(h)``, with h the tapped input of the FFN's second matrix, or the FFN's output.

    Args:
        dim: width of the block's output.
        width: width of what alpha sees.
        tap: where h comes from; None: the output itself.
        init: ``reference`` (v = 1) or ``zero`` (v = 0: adds nothing).

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


def inject_houlsby(target: Target, options: Houlsby) -> None:
    """Put a plain bottleneck beside each selected block output's dropout."""
    for index, size in options.sizes(target.injection.layers, target.dim).items():
        for block in options.sites:
            adapter = PlainBottleneck(target.dim, size, activation=options.activation, init=options.init)
            _add(target, "houlsby", index, block, adapter)


def inject_adapter_bias(target: Target, options: AdapterBias) -> None:
    """Put a shift beside each selected FFN output's dropout."""
    for index in target.select(options.layers):
        second = target.layer(index).get_submodule(target.family.fc2)
        tap = InputTap() if options.input == "hidden" else None
        width = target.dim if tap is None else second.in_features
        _add(target, "adapter_bias", index, "ffn", FrameShift(target.dim, width, tap=tap, init=options.init))
        if tap is not None:
            second.register_forward_pre_hook(tap)


def _add(target: Target, component: str, index: int, block: str, adapter: nn.Module) -> None:
    attribute = getattr(target.family, f"{block}_output")
    output_site(target.layer(index), attribute).additions[component] = adapter
    path = f"{target.layer_path(index)}.{attribute}.additions.{component}"
    target.declare_module(component, f"{index}.{block}", path)
