"""Kinds of options that several methods have, and what those methods share. Knows neither torch nor S3PRL."""

import math
from typing import Literal

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.selection import SIZE_MULTIPLE, each_size, resolve_layers, resolve_size, resolve_sizes
from upstream_elp.base.errors import ElpError

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.adapters.selection.resolve_layers`."""
Size = str | int
"""Absolute, or a fraction of the model's width as in :func:`upstream_elp.adapters.selection.resolve_size`."""
Sizes = str | int | dict[str, str | int]
"""One size, or layer selections to sizes as in :func:`upstream_elp.adapters.selection.resolve_sizes`."""
Counts = int | dict[str, int]
"""The same with absolute sizes only."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]
ONE_SIZE = "one size"
"""Key in a field's metadata: the reason why this size cannot differ between layers."""
UNRELATED = math.sqrt(2)
"""Distance of two unrelated states relative to their norm, for :attr:`Method.moves_at_init`."""


class PerLayer(Method):
    """A method whose only demand on a model is that its ``layers`` are in it."""

    layers: Layers

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")


class Bottlenecked(Method):
    """A method that puts a bottleneck into each of its layers."""

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


class VectorsPerLayer(Method):
    """A method that gives each of its layers a number of learned vectors."""

    layers: Layers
    length: Counts
    init_std: float

    def lengths(self, layers: int, *, where: str = "method") -> dict[int, int]:
        """Selected layer to its number of vectors, in a model of ``layers`` layers.

        Raises:
            ElpError: naming the option of the method ``where`` that does not fit.
        """
        return resolve_sizes(self.length, self.layers, layers, where=where, key="length")

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        check_counts(self.length, f"{where}.length")
        check_std(self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or length does not fit ``layers`` layers."""
        self.lengths(layers, where=where)

    @property
    def moves_at_init(self) -> float:
        """The vectors are further keys for every frame, and a random backbone attends evenly, to them as to any."""
        return UNRELATED


def check_counts(counts: Counts, where: str) -> None:
    """Raise an :class:`ElpError` if a number of vectors, or a rank, is less than one."""
    for place, count in each_size(counts, where):
        if count < 1:
            raise ElpError(f"{place} must be at least 1, got {count}")


def check_std(init_std: float, where: str) -> None:
    """Raise an :class:`ElpError` if the standard deviation of a method's initial vectors is not one."""
    if not 0 <= init_std < math.inf:
        raise ElpError(f"{where}.init_std must be a finite number and not negative, got {init_std}")
