"""What of a run's features may be cached: it follows from where the lowest trained tensor sits and from the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upstream_elp.adapters.lowest import (
    CNN_OUTPUT,
    ENCODER_INPUT,
    LAYER_LEVEL,
    STATES,
    WAVES,
    Place,
    layer_input,
    lowest_trained,
)
from upstream_elp.base.errors import ElpError, either

if TYPE_CHECKING:
    from upstream_elp.upstream.expert import ElpExpert

KINDS = ("off", "auto", "pooled", "layers", "input_of_layer", "cnn")
"""Values of ``runner.cache``; after the first two, from what saves most to what saves least."""
GIGABYTES = 20.0
"""Default of ``runner.cache_gb``."""


@dataclass(frozen=True)
class Wish:
    """The keys of the runner block that concern the cache, checked by :mod:`upstream_elp.launch.blocks`."""

    cache: str = "off"
    features_of: str = "batch"
    dtype: str | None = None
    """``runner.cache_dtype``, the type in which features are kept; None as they are computed."""
    gigabytes: float = GIGABYTES

    @classmethod
    def of(cls, runner: Mapping[str, Any]) -> Wish:
        """Read a runner block."""
        return cls(
            cache=_word(runner.get("cache", "off")),
            features_of=runner.get("features_of", "batch"),
            dtype=runner.get("cache_dtype"),
            gigabytes=float(runner.get("cache_gb", GIGABYTES)),
        )


def _word(value: Any) -> str:
    return "off" if value is False else value  # YAML 1.1 reads an unquoted off as false


@dataclass(frozen=True)
class Choice:
    """What is computed once per utterance."""

    place: Place
    pooled: bool = False
    """Whether only the mean of each hidden state over time is kept."""

    @property
    def kind(self) -> str:
        """The value of ``runner.cache`` that it belongs to."""
        if self.pooled:
            return "pooled"
        if self.place == STATES:
            return "layers"
        return "input_of_layer" if self.place.level == LAYER_LEVEL else "cnn"

    def __str__(self) -> str:
        return f"the mean over time of {self.place}" if self.pooled else str(self.place)


def highest(expert: ElpExpert, *, trained: bool) -> Place:
    """Return the highest place below which a run computes the same numbers in every step.

    Args:
        expert: the upstream.
        trained: whether it is trained (S3PRL's ``-f``).
    """
    if not trained:
        return STATES
    return WAVES if _varies(expert) else lowest_trained(expert.injection)


def _varies(expert: ElpExpert) -> str:
    """Return the key that lets even the frozen part compute other numbers in every step; empty if there is none."""
    return next((key for key in ("backbone_dropout", "spec_augment") if getattr(expert.config, key)), "")


def choose(expert: ElpExpert, kind: str, *, trained: bool, pools: bool) -> Choice | None:
    """Choose what to compute once per utterance.

    Args:
        expert: the upstream.
        kind: one of :data:`KINDS` except ``off``.
        trained: whether the upstream is trained.
        pools: whether the head needs only the mean over time of its features.

    Returns:
        The choice; None if ``kind`` is ``auto`` and nothing stays the same.

    Raises:
        ElpError: the adapter does not allow this kind; names the reason and the kinds that it allows.
    """
    top, layers = highest(expert, trained=trained), expert.injection.layers
    possible: dict[str, Choice] = {}
    if top == STATES and not trained and pools:
        possible["pooled"] = Choice(STATES, pooled=True)
    if top == STATES:
        possible["layers"] = Choice(STATES)
    if top >= layer_input(0):
        possible["input_of_layer"] = Choice(min(top, layer_input(layers - 1)))
    if top >= CNN_OUTPUT:
        possible["cnn"] = Choice(min(top, ENCODER_INPUT))
    if kind == "auto":
        return next(iter(possible.values()), None)
    if kind not in possible:
        instead = either(["auto", "off", *possible])
        raise ElpError(f"runner.cache is {kind}, but {_why_not(expert, kind, top, pools=pools)}; choose {instead}")
    return possible[kind]


def _why_not(expert: ElpExpert, kind: str, top: Place, *, pools: bool) -> str:
    """Return the reason why a kind is impossible, as a clause."""
    if top == WAVES and (key := _varies(expert)):
        return f"with {key}: true, the backbone computes other numbers in every step"
    if kind == "pooled" and top == STATES:
        if not pools:
            return "the head, SpecAugment or the normalisation of features needs every frame"
        return "the adapter is trained on every frame of the hidden states"
    return f"the adapter {expert.config.name} is trained from {top} on"
