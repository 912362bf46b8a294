"""Kinds of values that the methods' options share."""

from typing import Literal

from upstream_elp.layers import resolve_layers

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.layers.resolve_layers`."""
Size = str | int
"""Absolute, or a fraction of the model's width as in :func:`upstream_elp.layers.resolve_size`."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]
CNN_BLOCKS = 7
"""Blocks of the waveform front end in every family."""
Linear = Literal["q", "k", "v", "out", "fc1", "fc2"]
Scope = Literal["layers", "no_cnn", "all"]


class PerLayer:
    """What the methods share whose only demand on a model is that their ``layers`` are in it."""

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
