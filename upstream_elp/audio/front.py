"""The waveform CNN of a backbone in numbers: from samples to frames, without torch or weights."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from upstream_elp.base.errors import ElpError, shown

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16_000
"""The sample rate in Hz that all backbones of S3PRL expect."""
MOST_LAYERS = 64
"""More convolutions than any front end has, so that a text such as ``[...] * 10**9`` does not fill the memory."""


@dataclass(frozen=True)
class FrontEnd:
    """Kernel and stride of every convolution; none of them pads."""

    conv: tuple[tuple[int, int], ...]

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return prod(stride for _, stride in self.conv)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest wave that yields one frame: the receptive field."""
        samples = 1
        for kernel, stride in reversed(self.conv):
            samples = (samples - 1) * stride + kernel
        return samples

    def samples(self, frames: int) -> int:
        """Return the samples of the shortest wave that yields ``frames`` frames."""
        return self.min_samples + (frames - 1) * self.stride

    def frame_len(self, samples: Tensor) -> Tensor:
        """Return the frames of waves of these lengths; in each layer, they are floor((n - kernel) / stride) + 1."""
        return ((samples - self.min_samples) // self.stride + 1).clamp(min=0)


STANDARD = FrontEnd(((10, 5), *((3, 2),) * 4, *((2, 2),) * 2))
"""The front end of wav2vec 2.0 and all named backbones: a frame of 400 samples every 320 samples."""


def fairseq_layers(text: Any) -> tuple[tuple[int, int, int], ...]:
    """Read fairseq's ``conv_feature_layers``, such as ``[(512, 10, 5)] + [(512, 3, 2)] * 4``.

    S3PRL's models evaluate this text as Python, so nothing else must ever reach them.

    Returns:
        (channels, kernel, stride) of each layer.

    Raises:
        ElpError: the text contains anything but such lists, ``+`` and ``*``.
    """
    try:
        given = _value(ast.parse(text.strip(), mode="eval").body)
        layers = [(int(channels), int(kernel), int(stride)) for channels, kernel, stride in given]
    except (AttributeError, SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ElpError(
            f"conv_feature_layers must be a list of (channels, kernel, stride), but is {shown(text)}"
        ) from error
    if not layers or min(min(layer) for layer in layers) < 1:
        raise ElpError(f"conv_feature_layers must be at least one layer of positive numbers, but is {shown(text)}")
    return tuple(layers)


def _value(node: ast.expr) -> Any:
    """Evaluate lists, tuples, whole numbers, and their sums and multiples."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return _bounded(_value(part) for part in node.elts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _bounded((*_value(node.left), *_value(node.right)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _value(node.left), _value(node.right)
        values, times = (right, left) if isinstance(left, int) else (left, right)
        return _bounded(values * min(times, MOST_LAYERS + 1))
    raise ValueError(f"{type(node).__name__} is not allowed")


def _bounded(values: Iterable[Any]) -> tuple[Any, ...]:
    found = tuple(values)
    if len(found) > MOST_LAYERS:
        raise ValueError(f"more than {MOST_LAYERS} layers")
    return found
