"""The contract of an adapter method: one frozen dataclass, in this package and in others.

The fields are the YAML options, each with a default and a sentence below it. The class says which models it fits, how
many values it trains and how it is put into a backbone. Everything else follows from that: freezing, the self-check,
saving, counting, learning rates, and the laws of the test suite. ``docs/adding-a-method.md`` walks through an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from upstream_elp.adapters.injection import Target
    from upstream_elp.backbones.architecture import Architecture
    from upstream_elp.backbones.family import Family


class Method(ABC):
    """An adapter method. A class that defines ``check``, ``count`` and ``inject`` need not inherit from this one."""

    conflicts: ClassVar[Mapping[str, str]] = {}
    """Methods that this one cannot be combined with, and the reason. It is enough if one of the two names the other."""
    mergeable: ClassVar[bool] = False
    """Whether it only changes the backbone's own tensors, so that ``elp merge`` can fold it into a plain backbone."""
    in_place: ClassVar[bool] = False
    """Whether it trains the backbone's own tensors in place, so that it can be neither switched off nor removed."""

    @abstractmethod
    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if an option does not fit a model of ``layers`` encoder layers of width ``dim``.

        Args:
            layers: number of encoder layers.
            dim: width of the encoder.
            where: the method's name, to name an option in errors, as in ``f"{where}.layers"``.
        """

    @abstractmethod
    def count(self, model: Architecture) -> int:
        """Return the number of values that the method trains on ``model``, computed from shapes only."""

    @abstractmethod
    def inject(self, target: Target) -> None:
        """Put the method into a frozen backbone and declare every tensor that it trains."""

    def validate(self, *, where: str) -> None:  # noqa: B027 (the other checks are enough for most methods)
        """Raise an :class:`ElpError` for an option that cannot fit any model; types and choices are already checked."""

    @property
    def moves_at_init(self) -> float:
        """Largest change of the backbone's hidden states at initialisation, relative to their norm.

        0 promises that they stay bit-equal. A method that overrides this gives its reason in the docstring.
        """
        return 0.0

    def zero_gradients(self, family: Family) -> tuple[str, ...]:
        """Return name endings of the declared tensors whose gradient is always zero in a ``family``.

        For the backbone's own tensors these are :attr:`Family.zero_gradient`, such as the bias of the keys.
        """
        return ()
