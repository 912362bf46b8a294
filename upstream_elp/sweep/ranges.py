"""What a search may try: values by key, as lists or as ranges of numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import is_number
from upstream_elp.sweep import changes, values

KEYS = ("low", "high", "log")
DIGITS = 3
"""Significant digits of a proposed number, so that tables show exactly what ran."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones if both limits are.

    Args:
        low: the smallest number.
        high: the largest number.
        log: whether the logarithm is drawn evenly, and not the number.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def count(self) -> float:
        """How many numbers there are; those that are not whole count as infinitely many."""
        return self.high - self.low + 1 if self.whole else math.inf

    def near(self, number: float) -> float:
        """A number of the range with few digits: :data:`DIGITS`, or more if the range is narrow."""
        if self.whole:
            return round(min(max(number, self.low), self.high))
        places = DIGITS - math.floor(math.log10(self.high - self.low))
        if self.log:
            places = max(places, DIGITS - 1 - math.floor(math.log10(number)))
        return min(max(round(number, places), self.low), self.high)

    def drawn(self, draw: random.Random) -> float:
        """Any number of the range."""
        if self.whole:
            return draw.randint(int(self.low), int(self.high))
        return self.near(draw.uniform(self.low, self.high))


Values = tuple[Any, ...] | Range
Space = Mapping[str, Values]
"""Changed keys -> what may be tried; a setting has one value of each."""


def read(raw: Any, where: str) -> dict[str, Values]:
    """Read a block of changed keys with lists or ranges, such as ``{low: 1.0e-4, high: 1.0e-2, log: true}``.

    Raises:
        ElpError: an invalid key or a wrong value.
    """
    found: dict[str, Values] = {}
    for key, value in values.mapping(raw, where).items():
        changes.check(key, where)
        name = f"{where}.{key}"
        found[key] = _range(value, name) if isinstance(value, Mapping) else values.distinct(value, name)
    return found


def _range(raw: Mapping[str, Any], where: str) -> Range:
    values.check_keys(raw, KEYS, where)
    for key in ("low", "high"):
        if not is_number(raw.get(key)):
            raise ElpError(f"{where}.{key} must be a number, but is {shown(raw.get(key))}; correct it")
    if not isinstance(raw.get("log", False), bool):
        raise ElpError(f"{where}.log must be true or false, but is {shown(raw['log'])}; correct it")
    found = Range(**raw)
    if not found.low < found.high:
        raise ElpError(f"{where}.low must be below high, but {found.low:g} is not below {found.high:g}; correct one")
    if found.log and found.low <= 0:
        raise ElpError(f"{where}.low must be above 0 with log: true, but is {found.low:g}; raise it, or remove log")
    return found


def count(space: Space) -> float:
    """How many settings there are."""
    return math.prod(each.count if isinstance(each, Range) else len(each) for each in space.values())


def corners(space: Space) -> list[dict[str, Any]]:
    """Settings in which every listed value and both limits of every range occur at least once."""
    ends = {key: (each.low, each.high) if isinstance(each, Range) else each for key, each in space.items()}
    most = max(map(len, ends.values()))
    return [{key: each[min(number, len(each) - 1)] for key, each in ends.items()} for number in range(most)]


def drawn(space: Space, draw: random.Random) -> dict[str, Any]:
    """Any setting."""
    return {key: each.drawn(draw) if isinstance(each, Range) else draw.choice(each) for key, each in space.items()}
