"""Houlsby adapters: bottlenecks next to the dropouts of block outputs (arXiv 2210.06175)."""

from __future__ import annotations

from dataclasses import dataclass, field

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Activation, Block, Bottlenecked, Init, Layers, Sizes
from upstream_elp.adapters.networks import PlainBottleneck, add_to_output
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class Houlsby(Bottlenecked):
    """Bottlenecks without a LayerNorm next to a block's dropout: ``dropout(f) + A(f)``, ``A(f) = W_up act(W_down f)``.

    As coded for arXiv 2210.06175: f is the block's output before its dropout, and the residual is added afterwards.
    """

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Blocks whose output is adapted."""
    bottleneck: Sizes = 32
    """Inner width: one size for all layers, or one per selection."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 0.02), biases 0 (our reading). ``zero``: W_up is 0 as well, an exact identity."""

    @property
    def moves_at_init(self) -> float:
        """Each addition is small after two N(0, 0.02) maps, and the layers above amplify it."""
        return 0.0 if self.init == "zero" else 0.1

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        sizes = self.sizes(model.layers, model.dim).values()
        return len(self.sites) * sum(2 * model.dim * size + size + model.dim for size in sizes)

    def inject(self, target: Target) -> None:
        """Put a plain bottleneck next to the dropout of each selected block output."""
        for index, size in self.sizes(target.injection.layers, target.dim).items():
            for block in self.sites:
                adapter = PlainBottleneck(target.dim, size, activation=self.activation, init=self.init)
                add_to_output(target, "houlsby", index, block, adapter)
