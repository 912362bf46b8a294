"""CNN adapters: zero-initialised copies of the blocks of the waveform front end (CHAPTER, arXiv 2212.01282)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.adapters.kinds import Layers
from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.backbones.architecture import Architecture
from upstream_elp.base.errors import ElpError

CNN_BLOCKS = 7
"""Number of blocks of the waveform front end, the same in every family."""


@dataclass(frozen=True)
class CNN(Method):
    """CHAPTER's CNN adapters: ``conv(x) + scale * copy(x)`` in the waveform front end, with zero-initialised copies.

    The front end then runs with gradients, which takes several times the memory.
    """

    layers: Layers = "all"
    """Blocks of the front end, counted from the waveform."""
    scale: float = 0.01
    """Factor of the copies, as coded for arXiv 2212.01282 in its copy of S3PRL; its copy of fairseq has 1."""

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that cannot fit any model."""
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ElpError(f"{where}.scale must be finite and not zero, but is {self.scale}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit the front end's blocks."""
        resolve_layers(self.layers, CNN_BLOCKS, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return sum(model.cnn_block_parameters[index] for index in resolve_layers(self.layers, CNN_BLOCKS))

    def inject(self, target: Target) -> None:
        """Put a copy next to each selected CNN block, and let gradients through the front end."""
        family = target.family
        cnn = target.model.get_submodule(family.cnn)
        for index in resolve_layers(self.layers, len(cnn.conv_layers), where="cnn.layers"):
            block = cnn.conv_layers[index]
            adapter = ParallelBlock(block, self.scale)
            # not a child of the block, which is a sequence and would run it
            cnn.add_module(f"adapter_{index}", adapter)
            block.register_forward_hook(adapter)
            target.declare_module("cnn", str(index), f"{target.injection.model_path}.{family.cnn}.adapter_{index}")
        target.let_gradients_through_cnn()


class ParallelBlock(Switch):
    """Adds ``scale * copy(x)`` to the output of a CNN block for x, as a forward hook of that block.

    The copy has the block's kernel, stride, norm and activation. Its convolution starts at zero (our reading: its bias
    too) and its norm at weight 1 and bias 0, so that it adds exactly nothing at first.

    Args:
        block: the CNN block, a sequence whose first module is its convolution.
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
        """Run as the hook."""
        if not self.enabled:
            return None
        return output + self.scale * self.copy(args[0])
