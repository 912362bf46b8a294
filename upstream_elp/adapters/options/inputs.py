"""Options of the methods that add learned frames, keys and values, or convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from upstream_elp.adapters.options.kinds import CNN_BLOCKS, Counts, Layers, check_counts
from upstream_elp.adapters.selection import resolve_layers, resolve_sizes
from upstream_elp.base.errors import ElpError

if TYPE_CHECKING:
    from upstream_elp.backbones.architecture import Architecture


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
        check_counts(self.length, f"{where}.length")
        _check_std(self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Every model has a place for pseudo features."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return self.length * (model.cnn_dim if self.site == "cnn" else model.dim)


def _check_std(init_std: float, where: str) -> None:
    if not 0 <= init_std < math.inf:
        raise ElpError(f"{where}.init_std must be a finite number and not negative, got {init_std}")


class _VectorsPerLayer:
    """What the methods share that give each of their layers a number of learned vectors."""

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
        _check_std(self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or length does not fit ``layers`` layers."""
        self.lengths(layers, where=where)


@dataclass(frozen=True)
class DeepPrompt(_VectorsPerLayer):
    """Learned frames before the input of each layer, stripped from its output.

    As coded for arXiv 2211.02227 and 2306.05350. WavLM sees them at the positions before the first frame.
    """

    length: Counts = 5
    """Number of frames per layer, the same everywhere or by layer, such as ``{":6": 2, "top:6": 5}``."""
    layers: Layers = "all"
    init: Literal["xavier", "normal"] = "xavier"
    """``xavier``: uniform, of a tensor (1, length, width), as coded."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def identity_at_init(self) -> bool:
        """Learned frames are further keys from the first."""
        return False

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return sum(self.lengths(model.layers).values()) * model.dim


@dataclass(frozen=True)
class PrefixKV(_VectorsPerLayer):
    """Prefix tuning: learned keys and values in each layer's attention, without a position."""

    length: Counts = 10
    """Number of keys, and of values, per layer, the same everywhere or by layer."""
    layers: Layers = "all"
    init_std: float = 0.02
    """Standard deviation of the initial ones (our reading)."""

    @property
    def identity_at_init(self) -> bool:
        """Learned keys take part in the softmax from the first."""
        return False

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return 2 * sum(self.lengths(model.layers).values()) * model.dim


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
