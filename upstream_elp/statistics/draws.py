"""Draws of clusters with replacement, and intervals from the values of the draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from upstream_elp.base.errors import ElpError
from upstream_elp.statistics.items import Items
from upstream_elp.statistics.measures import fold_places

LEAST_DRAWS = 100
FEW = 10
"""With fewer clusters than this an interval is only a rough one."""


@dataclass(frozen=True)
class Draws:
    """Draws of the clusters of a test set.

    Attributes:
        multiplicities: how often each draw has each cluster. Shape ``(draws, clusters)``.
        freedom: clusters less the number of groups within which they are drawn.
    """

    multiplicities: np.ndarray
    freedom: int

    @property
    def correction(self) -> float:
        """What the standard deviation of the draws lacks: ``sqrt(n / (n - 1))`` for n clusters of one group."""
        clusters = self.multiplicities.shape[1]
        return math.sqrt(clusters / self.freedom) if self.freedom else math.nan


def draw(items: Items, *, draws: int, generator: np.random.Generator) -> Draws:
    """Draw as many clusters as there are, with replacement.

    If no cluster is in two folds, each fold keeps its number of clusters, so that no draw lacks a fold.

    Args:
        items: the results.
        draws: how often.
        generator: the source of randomness; the same seed and clusters give the same draws for every method.
    """
    groups = _groups(items)
    multiplicities = np.zeros((draws, len(items.clusters)))
    for group in groups:
        multiplicities[:, group] = with_replacement(len(group), draws=draws, generator=generator)
    return Draws(multiplicities, len(items.clusters) - len(groups))


def with_replacement(count: int, *, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return how often each draw of ``count`` of ``count`` things has each of them. Shape ``(draws, count)``."""
    places = generator.integers(0, count, size=(draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * count).reshape(draws, count)


def _groups(items: Items) -> list[np.ndarray]:
    """Return the clusters of each fold if folds share none, or else all of them."""
    first, second = items.places
    folds = [np.union1d(first[places], second[places]) for places in fold_places(items)]
    count = len(items.clusters)
    return folds if sum(map(len, folds)) == count else [np.arange(count)]


def limits(values: np.ndarray, *, error: float, freedom: float, level: float) -> tuple[float, float]:
    """Return the ends of a percentile interval.

    Percentiles of few clusters are too narrow: their spread lacks a factor, and they are those of a normal, not of a t
    distribution. So they are taken as far out as makes up for both (the "expanded percentile interval" of Hesterberg,
    "What Teachers Should Know about the Bootstrap", The American Statistician 69, 2015).

    Args:
        values: the draws' values. Shape ``(draws,)``.
        error: the standard error.
        freedom: degrees of freedom of the t distribution.
        level: the probability that the interval is to cover, such as 0.95.
    """
    spread = values.std(ddof=1)
    tail = (1.0 - level) / 2.0
    if spread > 0:
        from scipy.special import ndtr, stdtrit  # imported only when used: it takes a while

        tail = float(ndtr(stdtrit(freedom, tail) * error / spread))
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def check(*, draws: int, level: float) -> None:
    """Check the two options of every interval.

    Raises:
        ElpError: one is out of range.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < LEAST_DRAWS:
        raise ElpError(f"draws must be a whole number of at least {LEAST_DRAWS}, but is {draws!r}; 1000 are usual")
    if not isinstance(level, float) or not 0.5 <= level < 1.0:
        raise ElpError(f"level must be a share from 0.5 to below 1, but is {level!r}; 0.95 is usual")
