"""Parallel adapters: a bottleneck from an encoder layer's input to the sum before its last norm (arXiv 2401.02122)."""

from typing import Any

from torch import Tensor, nn

from upstream_elp.adapters.additions import PlainBottleneck
from upstream_elp.adapters.contract import Target
from upstream_elp.adapters.options import Parallel
from upstream_elp.adapters.primitives import InputTap, output_site


class LayerInputTap(InputTap):
    """Keeps the input of the first module inside a layer, which is the layer's input.

    That module is the attention (post-norm) or its norm (pre-norm). A hook on the layer itself would see the same
    tensor, but not run again where gradient checkpointing repeats the layer's forward.
    """

    def forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The pre-hook, with keyword arguments."""
        super().forward(module, args or (kwargs["query"],))


class ParallelBottleneck(PlainBottleneck):
    """``A(x)`` of the layer's input x, whatever the site shows it.

    Args:
        dim: width of the encoder.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` (PyTorch's default) or ``zero`` (W_up and its bias zero: adds nothing).

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(self, dim: int, bottleneck: int, *, activation: str = "gelu", init: str = "reference") -> None:
        super().__init__(dim, bottleneck, activation=activation, init=init)
        if init == "reference":
            self.down.reset_parameters()
            self.up.reset_parameters()
        self.tap = LayerInputTap()

    def forward(self, f: Tensor) -> Tensor:
        return super().forward(self.tap.take())


def inject_parallel(target: Target, options: Parallel) -> None:
    """Put a bottleneck of the layer's input beside each selected layer's FFN output."""
    family = target.family
    for index, size in options.sizes(target.injection.layers, target.dim).items():
        layer = target.layer(index)
        adapter = ParallelBottleneck(target.dim, size, activation=options.activation, init=options.init)
        output_site(layer, family.ffn_output).additions["parallel"] = adapter
        first = layer.get_submodule(family.attention_norm if target.pre_norm else family.attention)
        first.register_forward_pre_hook(adapter.tap, with_kwargs=True)
        path = f"{target.layer_path(index)}.{family.ffn_output}.additions.parallel"
        target.declare_module("parallel", str(index), path)
