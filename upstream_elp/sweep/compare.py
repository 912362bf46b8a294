"""What a plan says about comparisons: the baseline, and the loss that does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean, is_number
from upstream_elp.sweep import values

KEYS = ("baseline", "margin")


@dataclass(frozen=True)
class Compare:
    """The comparisons of a plan.

    Args:
        baseline: the method with which the others are compared, next to the best one; None for no such comparison.
        margins: full name of a task, or None for all others -> the largest loss against the baseline that does not
            matter, in percentage points.
    """

    baseline: str | None = None
    margins: Mapping[str | None, float] = field(default_factory=dict)

    def margin(self, task: str) -> float | None:
        """The margin of a task; None without one."""
        return self.margins.get(task, self.margins.get(None))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as :meth:`from_dict` reads them."""
        return {"baseline": self.baseline, "margins": {task or "": value for task, value in self.margins.items()}}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any] | None) -> Compare:
        """What :meth:`to_dict` returned; None gives no comparisons."""
        if not isinstance(known, Mapping):
            return cls()
        margins = {task or None: value for task, value in known["margins"].items()}
        return cls(known["baseline"], margins)


def read(raw: Any, methods: Sequence[str], *, where: str) -> Compare:
    """Read the block ``compare`` of a plan.

    Args:
        raw: its content; None without one.
        methods: the names of the plan's methods.
        where: what to call it in messages.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    block = values.mapping(raw, where)
    values.check_keys(block, KEYS, where)
    if not block:
        return Compare()
    baseline = block.get("baseline")
    if baseline not in methods:
        hint = did_you_mean(baseline, methods, then=f"the methods are {', '.join(methods)}")
        raise ElpError(f"{where}.baseline must be a method of the plan, but is {shown(baseline)}; {hint}")
    margin = block.get("margin")
    if not isinstance(margin, Mapping):
        return Compare(baseline, {} if margin is None else {None: _margin(margin, f"{where}.margin")})
    named = {values.task(task, f"{where}.margin"): (task, value) for task, value in margin.items()}
    return Compare(baseline, {full: _margin(value, f"{where}.margin.{task}") for full, (task, value) in named.items()})


def _margin(value: Any, where: str) -> float:
    if not is_number(value) or value <= 0:
        raise ElpError(f"{where} must be a number of percentage points above 0, but is {shown(value)}; correct it")
    return float(value)
