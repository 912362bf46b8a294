"""The frozen modules that a replay passes over, and what they return instead."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from upstream_elp.adapters.lowest import CNN_OUTPUT, Place, layer_input
from upstream_elp.adapters.primitives import Mixin

X, BIAS = "x", "bias"
"""Names of a layer's input and of its position bias in the arrangement of its output."""


class Recorder(Protocol):
    """What these modules ask: :class:`upstream_elp.upstream.replay.Replay`."""

    def passes_over(self, place: Place) -> bool: ...

    def cnn_output(self) -> Tensor: ...

    def leave_cnn(self, output: Tensor) -> None: ...

    def enter_layer(self, index: int, x: Tensor) -> Tensor | None: ...

    def skip_layer(self, index: int, x: Tensor) -> Any: ...


class PassedOver(Mixin):
    """Base of the classes of frozen modules that are passed over in a replay."""

    replay: Recorder


class Cnn(PassedOver):
    """The waveform CNN: (batch, samples) to (batch, channels, frames)."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the CNN, or return its recorded output or zeros."""
        if self.replay.passes_over(CNN_OUTPUT):
            return self.replay.cnn_output()
        output = super().forward(*args, **kwargs)
        self.replay.leave_cnn(output)
        return output


class Positions(PassedOver):
    """The positional convolution, whose result has the shape of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the convolution, or return its input."""
        return x if self.replay.passes_over(layer_input(0)) else super().forward(x)


class Layer(PassedOver):
    """An encoder layer below the place."""

    place_in_stack: int

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer, or pass its input on."""
        if self.replay.passes_over(layer_input(self.place_in_stack + 1)):
            return self.replay.skip_layer(self.place_in_stack, args[0])
        return super().forward(*args, **kwargs)


class LayerInput:
    """The pre-hook of a layer; an object and not a closure, so that copies of the expert use the copy's replay."""

    def __init__(self, replay: Recorder, index: int) -> None:
        self.replay = replay
        self.index = index

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        state = self.replay.enter_layer(self.index, args[0])
        return None if state is None else (state, *args[1:])


def pattern_of(output: Any, x: Tensor, frames: int) -> Any:
    """Return the arrangement of a layer's output, with names in place of tensors."""
    if isinstance(output, Tensor):
        return X if output.shape == x.shape else BIAS if output.shape[-2:] == (frames, frames) else None
    if isinstance(output, tuple | list):
        return tuple(pattern_of(item, x, frames) for item in output)
    return None


def filled(pattern: Any, values: dict[str, Any]) -> Any:
    """Return an arrangement with tensors in place of names."""
    if isinstance(pattern, tuple):
        return tuple(filled(item, values) for item in pattern)
    return values.get(pattern)
