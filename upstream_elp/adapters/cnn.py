"""CNN adapters: zero-initialised copies beside the blocks of the waveform front end (CHAPTER, arXiv 2212.01282)."""

import copy
from typing import Any

from torch import Tensor, nn

from upstream_elp.adapters.contract import Switch, Target
from upstream_elp.adapters.options import CNN
from upstream_elp.adapters.selection import resolve_layers


class ParallelBlock(Switch):
    """Adds ``scale * copy(x)`` to what a CNN block makes of x; a forward hook of that block.

    The copy has the block's kernel, stride, norm and activation; its convolution starts at zero (our reading: its bias
    too) and its norm at weight 1 and bias 0, so that it adds exactly nothing at first.

    Args:
        block: the CNN block, a sequence that starts with its convolution.
        scale: factor of the copy's output.

    Shape:
        (batch, channels, samples) to (batch, channels, frames).
    """

    def __init__(self, block: nn.Sequential, scale: float) -> None:
        super().__init__()
        self.copy = copy.deepcopy(block)
        for module in self.copy.modules():
            if isinstance(module, nn.Conv1d):
                for parameter in module.parameters(recurse=False):
                    nn.init.zeros_(parameter)
            elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.reset_parameters()
        self.scale = scale

    def forward(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The hook."""
        if not self.enabled:
            return None
        return output + self.scale * self.copy(args[0])


def inject_cnn(target: Target, options: CNN) -> None:
    """Put a copy beside each selected CNN block, and let gradients through the front end."""
    family = target.family
    cnn = target.model.get_submodule(family.cnn)
    for index in resolve_layers(options.layers, len(cnn.conv_layers), where="cnn.layers"):
        block = cnn.conv_layers[index]
        adapter = ParallelBlock(block, options.scale)
        # not a child of the block, which is a sequence that would run it
        cnn.add_module(f"adapter_{index}", adapter)
        block.register_forward_hook(adapter)
        target.declare_module("cnn", str(index), f"{target.injection.model_path}.{family.cnn}.adapter_{index}")
    target.let_gradients_through_cnn()
