"""Kinds of values that the methods' options share."""

from typing import Literal

from upstream_elp.adapters.selection import SIZE_MULTIPLE, each_size, resolve_layers, resolve_size, resolve_sizes
from upstream_elp.base.errors import ElpError

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.adapters.selection.resolve_layers`."""
Size = str | int
"""Absolute, or a fraction of the model's width as in :func:`upstream_elp.adapters.selection.resolve_size`."""
Sizes = str | int | dict[str, str | int]
"""One size, or layer selections to sizes as in :func:`upstream_elp.adapters.selection.resolve_sizes`."""
Counts = int | dict[str, int]
"""The same with absolute sizes alone."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]
ONE_SIZE = "one size"
"""Key in a field's metadata: the reason why this size cannot differ between layers."""
CNN_BLOCKS = 7
"""Blocks of the waveform front end in every family."""
Linear = Literal["q", "k", "v", "out", "fc1", "fc2"]
Scope = Literal["layers", "no_cnn", "all"]


class PerLayer:
    """What the methods share whose only demand on a model is that their ``layers`` are in it."""

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")


class Bottlenecked:
    """What the methods share that put a bottleneck into each of their layers."""

    layers: Layers
    bottleneck: Sizes

    def sizes(self, layers: int, dim: int, *, where: str = "method") -> dict[int, int]:
        """Selected layer to inner width, in a model of ``layers`` layers of width ``dim``.

        Raises:
            ElpError: naming the option of the method ``where`` that does not fit.
        """
        return resolve_sizes(self.bottleneck, self.layers, layers, dim, where=where, key="bottleneck")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a size that fits no model."""
        for place, size in each_size(self.bottleneck, f"{where}.bottleneck"):
            resolve_size(size, SIZE_MULTIPLE, where=place)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        self.sizes(layers, dim, where=where)


def check_counts(counts: Counts, where: str) -> None:
    """Raise an :class:`ElpError` if a number of vectors, or a rank, is less than one."""
    for place, count in each_size(counts, where):
        if count < 1:
            raise ElpError(f"{place} must be at least 1, got {count}")
