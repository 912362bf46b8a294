"""Where the lowest trained tensor sits: everything below it computes the same numbers in every step."""

from __future__ import annotations

from dataclasses import dataclass

from upstream_elp.adapters.injection import Injection


@dataclass(frozen=True, order=True)
class Place:
    """A place in a model; places are ordered from the waves up to the hidden states."""

    level: int
    layer: int = 0
    """The encoder layer, if the place is the input of one."""

    def __str__(self) -> str:
        name = ("the waves", "the CNN's output", "the encoder's input", "the input of layer", "the hidden states")
        return f"{name[self.level]} {self.layer}" if self.level == LAYER_LEVEL else name[self.level]


LAYER_LEVEL = 3
WAVES, CNN_OUTPUT, ENCODER_INPUT, STATES = Place(0), Place(1), Place(2), Place(4)


def layer_input(index: int) -> Place:
    """Return the place of the input of an encoder layer."""
    return Place(LAYER_LEVEL, index)


def lowest_trained(injection: Injection) -> Place:
    """Return the highest place below which no declared tensor sits.

    A tensor inside an encoder layer counts as that layer's, an L-adapter as above the hidden states. A tensor at an
    unknown place, such as a module that a method adds to the expert itself, counts as the lowest: what it affects is
    unknown.
    """
    return min((_place(injection, item.path) for item in injection.declared.values()), default=STATES)


def _place(injection: Injection, path: str) -> Place:
    if path.startswith("l_adapters."):
        return STATES
    family, model = injection.family, f"{injection.model_path}."
    if not path.startswith(model):
        return WAVES
    inner = path.removeprefix(model)
    if inner.startswith(f"{family.layers}."):
        return layer_input(int(inner.removeprefix(f"{family.layers}.").partition(".")[0]))
    if inner.startswith(f"{family.encoder}."):
        return ENCODER_INPUT
    if inner.startswith((f"{family.cnn_norm}.", f"{family.projection}.")):
        return CNN_OUTPUT
    return WAVES
