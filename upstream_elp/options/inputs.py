"""Options of the methods that add learned frames, keys and values, or convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from upstream_elp.errors import ElpError
from upstream_elp.layers import resolve_layers
from upstream_elp.options.kinds import CNN_BLOCKS, Layers, PerLayer

if TYPE_CHECKING:
    from upstream_elp.shapes import Architecture


@dataclass(frozen=True)
class PAdapter:
    """P-adapter: learned pseudo features beside the CNN features.

    Our reading: arXiv 2407.21066 says only that it appends pseudo features to the CNN features.
    """

    length: int = 10
    """Number of pseudo frames (the prompts of arXiv 2210.06175 have 10)."""
    position: Literal["end", "start"] = "end"
    """``end``: right after each utterance's own last frame; ``start``: before its first."""
    site: Literal["projected", "cnn"] = "projected"
    """``projected``: vectors of the model's width; ``cnn``: of the CNN's, sent through its norm and projection."""
    init: Literal["normal", "ones"] = "normal"
    """``ones`` is the start of arXiv 2210.06175's prompts."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def identity_at_init(self) -> bool:
        """Pseudo features are further keys from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Every model has a place for pseudo features."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return self.length * (model.cnn_dim if self.site == "cnn" else model.dim)


@dataclass(frozen=True)
class DeepPrompt(PerLayer):
    """Learned frames before the input of each layer, stripped from its output.

    As coded for arXiv 2211.02227 and 2306.05350. WavLM sees them at the positions before the first frame.
    """

    length: int = 5
    """Number of frames per layer."""
    layers: Layers = "all"
    init: Literal["xavier", "normal"] = "xavier"
    """``xavier``: uniform, of a tensor (1, length, width), as coded."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def identity_at_init(self) -> bool:
        """Learned frames are further keys from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * self.length * model.dim


@dataclass(frozen=True)
class PrefixKV(PerLayer):
    """Prefix tuning: learned keys and values in each layer's attention, without a position."""

    length: int = 10
    """Number of keys, and of values, per layer."""
    layers: Layers = "all"
    init_std: float = 0.02
    """Standard deviation of the initial ones (our reading)."""

    @property
    def identity_at_init(self) -> bool:
        """Learned keys take part in the softmax from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * 2 * self.length * model.dim


def _check_vectors(length: int, init_std: float, where: str) -> None:
    if length < 1:
        raise ElpError(f"{where}.length must be at least 1, got {length}")
    if not 0 <= init_std < math.inf:
        raise ElpError(f"{where}.init_std must be a finite number and not negative, got {init_std}")


@dataclass(frozen=True)
class CNN:
    """CHAPTER's CNN adapters: ``conv(x) + scale * copy(x)`` in the waveform front end, the copies' convolutions zero.

    The front end then runs with gradients, which takes a multiple of the memory.
    """

    layers: Layers = "all"
    """Blocks of the front end, counted from the waveform."""
    scale: float = 0.01
    """As coded for arXiv 2212.01282 in S3PRL's copy of the model; the fairseq copy has 1."""

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ElpError(f"{where}.scale must be a finite number and not zero, got {self.scale}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit the front end's blocks."""
        resolve_layers(self.layers, CNN_BLOCKS, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return sum(model.cnn_block_parameters[index] for index in resolve_layers(self.layers, CNN_BLOCKS))
