"""Parallel adapters: a bottleneck from an encoder layer's input to the sum before its last norm (arXiv 2401.02122)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Activation, Bottlenecked, Init, Layers, Sizes
from upstream_elp.adapters.networks import PlainBottleneck
from upstream_elp.adapters.primitives import InputTap, output_site
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class Parallel(Bottlenecked):
    """A bottleneck ``W_up act(W_down x)`` of the layer's input x, added to the residual sum at the end of the layer.

    As coded for arXiv 2401.02122. In post-norm layers it is added before the final norm. In pre-norm layers it is added
    to the layer's output, and x is the input before the first norm.
    """

    layers: Layers = "all"
    bottleneck: Sizes = 32
    """Inner width: one size for all layers, or one per selection."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: PyTorch's default, uniform within 1 / sqrt(fan-in), as coded. ``zero``: W_down N(0, 0.02), W_up
    and the biases 0, an exact identity."""

    @property
    def moves_at_init(self) -> float:
        """With PyTorch's default, each of the two maps roughly halves the root mean square."""
        return 0.0 if self.init == "zero" else 0.5

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return sum(2 * model.dim * size + size + model.dim for size in sizes)

    def inject(self, target: Target) -> None:
        """Put a bottleneck of the layer's input next to the FFN output of each selected layer."""
        family = target.family
        for index, size in self.sizes(target.injection.layers, target.dim).items():
            layer = target.layer(index)
            adapter = ParallelBottleneck(target.dim, size, activation=self.activation, init=self.init)
            output_site(layer, family.ffn_output).additions["parallel"] = adapter
            first = layer.get_submodule(family.attention_norm if target.pre_norm else family.attention)
            first.register_forward_pre_hook(adapter.tap, with_kwargs=True)
            path = f"{target.layer_path(index)}.{family.ffn_output}.additions.parallel"
            target.declare_module("parallel", str(index), path)


class LayerInputTap(InputTap):
    """Keeps the input of the first module inside a layer, which is the layer's input.

    That module is the attention (post-norm) or its norm (pre-norm). A hook on the layer itself would see the same
    tensor, but it would not run again when gradient checkpointing repeats the layer's forward.
    """

    def forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run as the pre-hook, with keyword arguments."""
        super().forward(module, args or (kwargs["query"],))


class ParallelBottleneck(PlainBottleneck):
    """``A(x)`` of the layer's input x; the tensor that the site passes is ignored.

    Args:
        dim: width of the encoder.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` (PyTorch's default) or ``zero`` (W_up and its bias are zero, which adds nothing).

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
