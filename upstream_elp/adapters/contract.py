"""What an adapter method is: one frozen dataclass, ours and other packages' alike.

The fields are the YAML options, each with a default and a sentence below it. The class says which models it fits, how
many values it trains and how it gets into a backbone; everything else follows: freezing, the self-check, saving,
counting, learning rates, and the laws of the test suite. ``docs/adding-a-method.md`` walks through an example.
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
    """One adapter method. A class that defines ``check``, ``count`` and ``inject`` need not inherit from this one."""

    conflicts: ClassVar[Mapping[str, str]] = {}
    """Names of methods that this one cannot be combined with, and why. One of the two methods has to say so."""
    mergeable: ClassVar[bool] = False
    """Whether it only changes the backbone's own tensors, so that ``elp merge`` can fold it into a plain backbone."""
    in_place: ClassVar[bool] = False
    """Whether it trains the backbone's own tensors in place, so that it cannot be switched off or taken out."""

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
        """Number of values that the method trains on ``model``, from its shapes alone."""

    @abstractmethod
    def inject(self, target: Target) -> None:
        """Put the method into a frozen backbone, and declare every tensor that it trains."""

    def validate(self, *, where: str) -> None:  # noqa: B027 (most methods need no more than the other checks)
        """Raise an :class:`ElpError` for an option that fits no model; types and choices are checked before."""

    @property
    def moves_at_init(self) -> float:
        """How far the initial tensors move the backbone's hidden states at most, relative to their norm.

        0 promises that they do not move at all, bit by bit. A method that overrides this states its reason.
        """
        return 0.0

    def zero_gradients(self, family: Family) -> tuple[str, ...]:
        """Endings of the names of declared tensors whose gradient is zero by nature in a ``family``.

        Of the backbone's own tensors these are :attr:`Family.zero_gradient`, such as the bias of the keys.
        """
        return ()
