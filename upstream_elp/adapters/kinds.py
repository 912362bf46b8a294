"""Types of options and base classes that several methods share. This module imports neither torch nor S3PRL."""

import math
from typing import Literal

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.selection import SIZE_MULTIPLE, each_size, resolve_layers, resolve_size, resolve_sizes
from upstream_elp.base.errors import ElpError

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.adapters.selection.resolve_layers`."""
Size = str | int
"""An absolute size, or a fraction of the model's width as in :func:`upstream_elp.adapters.selection.resolve_size`."""
Sizes = str | int | dict[str, str | int]
"""One size, or sizes by layer selection as in :func:`upstream_elp.adapters.selection.resolve_sizes`."""
Counts = int | dict[str, int]
"""The same for absolute sizes."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]
ONE_SIZE = "one size"
"""Key in a field's metadata for the reason why this size cannot differ between layers."""
UNRELATED = math.sqrt(2)
"""Distance between two unrelated states relative to their norm, for :attr:`Method.moves_at_init`."""


class PerLayer(Method):
    """A method that fits every model that has the selected layers."""

    layers: Layers

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")


class Bottlenecked(Method):
    """A method that puts a bottleneck into each of its layers."""

    layers: Layers
    bottleneck: Sizes

    def sizes(self, layers: int, dim: int, *, where: str = "method") -> dict[int, int]:
        """Return the inner width by selected layer, for a model of ``layers`` layers of width ``dim``.

        Raises:
            ElpError: an option of the method ``where`` does not fit; the message names it.
        """
        return resolve_sizes(self.bottleneck, self.layers, layers, dim, where=where, key="bottleneck")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a size that cannot fit any model."""
        for place, size in each_size(self.bottleneck, f"{where}.bottleneck"):
            resolve_size(size, SIZE_MULTIPLE, where=place)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        self.sizes(layers, dim, where=where)


class VectorsPerLayer(Method):
    """A method that adds a number of learned vectors to each of its layers."""

    layers: Layers
    length: Counts
    init_std: float

    def lengths(self, layers: int, *, where: str = "method") -> dict[int, int]:
        """Return the number of vectors by selected layer, for a model of ``layers`` layers.

        Raises:
            ElpError: an option of the method ``where`` does not fit; the message names it.
        """
        return resolve_sizes(self.length, self.layers, layers, where=where, key="length")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that cannot fit any model."""
        check_counts(self.length, f"{where}.length")
        check_std(self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or length does not fit ``layers`` layers."""
        self.lengths(layers, where=where)

    @property
    def moves_at_init(self) -> float:
        """Every frame sees the vectors as additional keys, and a random backbone attends to all keys about equally."""
        return UNRELATED


def check_counts(counts: Counts, where: str) -> None:
    """Raise an :class:`ElpError` if a number of vectors or a rank is less than one."""
    for place, count in each_size(counts, where):
        if count < 1:
            raise ElpError(f"{place} must be at least 1, but is {count}")


def check_std(init_std: float, where: str) -> None:
    """Raise an :class:`ElpError` if ``init_std`` cannot be a standard deviation."""
    if not 0 <= init_std < math.inf:
        raise ElpError(f"{where}.init_std must be finite and not negative, but is {init_std}")
