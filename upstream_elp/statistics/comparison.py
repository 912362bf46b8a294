"""Two methods on the same test set: their difference on the same draws, its p, and several comparisons at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import plain
from upstream_elp.base.values import is_number
from upstream_elp.statistics.draws import check
from upstream_elp.statistics.intervals import Sample, as_seeds
from upstream_elp.statistics.items import Items, aligned
from upstream_elp.statistics.measures import find

FLIPS = 9999
"""Random sign flips; with at most 13 clusters all of them are tried instead."""
CLOSE = 1e-12
"""Relative difference below which two sums are equal, so that rounding does not decide ties."""


@dataclass(frozen=True)
class Comparison:
    """Method b less method a on the same test set, in percentage points.

    Attributes:
        measure: its name.
        a: the value of a.
        b: the value of b.
        difference: ``b - a``; with several seeds, of their means.
        se: standard error of the difference; None without an interval.
        low: lower end of its interval; None without one.
        high: upper end of its interval; None without one.
        level: the probability that the interval is to cover.
        p: of the sign-flip test, two-sided; None if there is no difference to test.
        higher_is_better: whether a larger value is better.
        clusters: how many clusters were drawn from.
        seeds: how many training seeds each method has.
        rough: why the interval is rough, or why there is none; empty if neither.
        p_holm: p, adjusted for all comparisons of a table; None until :func:`compare_all`.
    """

    measure: str
    a: float
    b: float
    difference: float
    se: float | None
    low: float | None
    high: float | None
    level: float
    p: float | None
    higher_is_better: bool
    clusters: int
    seeds: int = 1
    rough: str = ""
    p_holm: float | None = None

    def non_inferior(self, margin: float) -> bool:
        """Return whether b is worse than a by less than the margin, as far as the whole interval says.

        Args:
            margin: the largest loss that does not matter, in percentage points; choose it before looking.

        Raises:
            ElpError: the margin is not a positive number.
        """
        if not is_number(margin) or margin <= 0:
            raise ElpError(f"margin must be a number above 0 in percentage points, but is {margin!r}; choose one")
        if self.low is None or self.high is None:
            return False
        return self.low > -margin if self.higher_is_better else self.high < margin

    def __str__(self) -> str:
        text = f"{self.difference:+.2f}"
        if self.se is not None:
            text += f" ± {self.se:.2f} ({100 * self.level:.4g} % {self.low:+.2f} to {self.high:+.2f})"
        for name, value in (("p", self.p), ("Holm p", self.p_holm)):
            text += "" if value is None else f", {name} {value:.4f}"
        return text + (f", rough: {self.rough}" if self.rough else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a value that is not finite is None."""
        return plain(asdict(self))


def compare(
    a: Items | Sequence[Items],
    b: Items | Sequence[Items],
    measure: str | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two methods that were tested on the same items.

    Args:
        a: the reference's results, or those of several training seeds.
        b: the other method's; as many seeds, in the same order.
        measure: its name; the first one of the items if None.
        draws: number of draws.
        level: the probability that the interval is to cover.
        seed: of the draws and sign flips, not of a training.

    Raises:
        ElpError: no such measure, other items, other numbers of seeds, or options out of range.
    """
    check(draws=draws, level=level)
    before, after = as_seeds(a), as_seeds(b)
    if len(before) != len(after):
        raise ElpError(
            f"both methods must have the same training seeds, but one has {len(before)} and the other {len(after)}; "
            "compare the seeds that both have"
        )
    reference = before[0]
    after = [aligned(reference, run, name="the other method's results") for run in after]
    kind = find(reference, measure)
    find(after[0], kind.name)
    ones = np.ones((1, len(reference.clusters)))
    values = np.array([[kind.values(run, ones)[0] for run in runs] for runs in (before, after)])  # (2, seeds)
    sample = Sample.of(reference, seeds=len(before), draws=draws, seed=seed)
    differences = sample.values(kind, after) - sample.values(kind, before)
    spread = sample.spread(differences, values[1] - values[0], level=level)
    shares = np.mean([kind.shares(x, y) for x, y in zip(before, after, strict=True)], axis=0)
    return Comparison(
        kind.name,
        *values.mean(axis=1).tolist(),
        float((values[1] - values[0]).mean()),
        *spread.ends,
        level,
        sign_flip(shares, seed=seed) if np.isfinite(shares).all() else None,
        kind.higher_is_better,
        len(reference.clusters),
        len(before),
        spread.rough,
    )


def compare_all(
    reference: Items | Sequence[Items],
    others: Mapping[str, Items | Sequence[Items]],
    measure: str | None = None,
    **options: Any,
) -> dict[str, Comparison]:
    """Compare several methods with one reference, and adjust their p for the number of comparisons (Holm).

    Args:
        reference: as ``a`` of :func:`compare`.
        others: name -> as ``b`` of :func:`compare`.
        measure: its name; the first one of the items if None.
        options: of :func:`compare`.
    """
    found = {name: compare(reference, items, measure, **options) for name, items in others.items()}
    known = {name: one.p for name, one in found.items() if one.p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return {name: replace(one, p_holm=adjusted.get(name)) for name, one in found.items()}


def sign_flip(shares: np.ndarray, *, flips: int = FLIPS, seed: int = 0) -> float:
    """Return the two-sided p of a sum whose terms could as well have the other sign.

    If two methods are equally good, exchanging their results for a cluster changes only the sign of its term.

    Args:
        shares: what each cluster contributes to a difference. Shape ``(clusters,)``.
        flips: number of random flips; all ``2 ** clusters`` are tried if these are not more.
        seed: of the flips.
    """
    shares = np.asarray(shares, dtype=float)
    found = abs(shares.sum())
    bound = found - CLOSE * np.abs(shares).sum()
    if 2 ** len(shares) <= flips + 1:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(shares))[:, None] >> np.arange(len(shares)) & 1)
        return float(np.mean(np.abs(signs @ shares) >= bound))
    signs = np.random.default_rng(seed).integers(0, 2, size=(flips, len(shares)), dtype=np.int8) * 2.0 - 1.0
    return float((np.sum(np.abs(signs @ shares) >= bound) + 1) / (flips + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted so that the chance of any false finding among them is kept (Holm 1979).

    Args:
        p: one value per comparison.

    Raises:
        ElpError: one is not from 0 to 1.
    """
    values = np.asarray(list(p), dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ElpError(f"p must be from 0 to 1, but one of {values.tolist()} is not; pass the p of sign_flip")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
