"""A value with its standard error and its interval, over speakers and over training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import plain
from upstream_elp.base.values import is_number
from upstream_elp.statistics.draws import FEW, Draws, check, draw, limits, with_replacement
from upstream_elp.statistics.items import Items, aligned
from upstream_elp.statistics.measures import Measure, find


@dataclass(frozen=True)
class Interval:
    """A value of a test set, in per cent, and how certain it is.

    Attributes:
        measure: its name.
        value: the value itself; with several seeds, their mean.
        se: standard error; None without an interval.
        low: lower end; None without an interval.
        high: upper end; None without an interval.
        level: the probability that the interval is to cover.
        draws: how many draws had a value.
        clusters: how many clusters were drawn from.
        unknown: how many of these are items without a speaker.
        rough: why the interval is rough, or why there is none; empty if neither.
        seeds: how many training seeds there are.
        seed_sd: standard deviation over the seeds; None for one.
    """

    measure: str
    value: float
    se: float | None
    low: float | None
    high: float | None
    level: float
    draws: int
    clusters: int
    unknown: int
    rough: str = ""
    seeds: int = 1
    seed_sd: float | None = None

    @property
    def cluster_se(self) -> float | None:
        """The standard error over clusters only: :attr:`se` without the part of the training seeds."""
        if self.se is None or self.seed_sd is None:
            return self.se
        return math.sqrt(max(0.0, self.se**2 - self.seed_sd**2 / self.seeds))

    @property
    def units(self) -> str:
        """What was drawn, such as ``20 speakers``."""
        if self.unknown == self.clusters:
            return f"{counted(self.clusters, 'item')} without a speaker"
        speakers = counted(self.clusters - self.unknown, "speaker")
        return f"{speakers}, {counted(self.unknown, 'item')} without one" if self.unknown else speakers

    @property
    def margin(self) -> str:
        """The text behind the value: ``± 1.40 (95 % 73.20 to 78.80, 20 speakers)``."""
        over = self.units + (f", {counted(self.seeds, 'seed')}" if self.seeds > 1 else "")
        if self.se is None:
            return f"(no interval: {self.rough})"
        rough = f", rough: {self.rough}" if self.rough else ""
        return f"± {self.se:.2f} ({100 * self.level:.4g} % {self.low:.2f} to {self.high:.2f}, {over}{rough})"

    def __str__(self) -> str:
        return f"{self.value:.2f} % {self.margin}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a value that is not finite is None."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Any) -> Interval | None:
        """Return the interval that :meth:`to_dict` wrote; None for anything else."""
        try:
            return cls(**values)
        except TypeError:
            return None


@dataclass(frozen=True)
class Seeds:
    """The mean over training seeds, with their standard deviation and the mean's standard error; None for one seed."""

    mean: float
    sd: float | None
    se: float | None
    count: int


def over_seeds(values: Sequence[float]) -> Seeds:
    """Return mean and standard deviation (with n - 1) of one value per training seed.

    Raises:
        ElpError: there is no value, or one is not a finite number.
    """
    values = list(values)
    if not values or not all(is_number(value) for value in values):
        raise ElpError(f"values over seeds must be at least one finite number, but are {values!r}; drop failed runs")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Seeds(mean, None, None, 1)
    sd = float(np.std(values, ddof=1))
    return Seeds(mean, sd, sd / math.sqrt(count), count)


def estimate(items: Items, measure: str | None = None) -> float:
    """Return the value of a measure, in per cent; nan if it has none."""
    return float(find(items, measure).values(items, np.ones((1, len(items.clusters))))[0])


def as_seeds(items: Items | Sequence[Items], *, name: str = "the results of another seed") -> list[Items]:
    """Return one Items for each seed, all in the order of the first.

    Raises:
        ElpError: there are none, or their test sets differ.
    """
    runs = [items] if isinstance(items, Items) else list(items)
    if not runs or not all(isinstance(run, Items) for run in runs):
        raise ElpError("results must be Items or a list with one Items for each seed; read them with load_items")
    return [runs[0], *(aligned(runs[0], run, name=name) for run in runs[1:])]


def interval(
    items: Items | Sequence[Items],
    measure: str | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a value with its interval over clusters and, for several runs, over training seeds.

    Args:
        items: the results, or those of several training seeds on the same test set.
        measure: its name; the first one of the items if None.
        draws: number of draws.
        level: the probability that the interval is to cover.
        seed: of the draws, not of a training.

    Raises:
        ElpError: no such measure, test sets that differ, or options out of range.
    """
    check(draws=draws, level=level)
    runs = as_seeds(items)
    kind = find(runs[0], measure)
    ones = np.ones((1, len(runs[0].clusters)))
    values = np.array([kind.values(run, ones)[0] for run in runs])
    drawn = Sample.of(runs[0], seeds=len(runs), draws=draws, seed=seed)
    spread = drawn.spread(drawn.values(kind, runs), values, level=level)
    return Interval(
        kind.name,
        float(values.mean()),
        *spread.ends,
        level,
        spread.draws,
        len(runs[0].clusters),
        runs[0].unknown,
        spread.rough,
        len(runs),
        float(values.std(ddof=1)) if len(runs) > 1 else None,
    )


@dataclass(frozen=True)
class Spread:
    """Standard error and ends of an interval, None if there are none; the draws' count, and why it is rough."""

    ends: tuple[float | None, float | None, float | None]
    draws: int
    rough: str


@dataclass(frozen=True)
class Sample:
    """Draws of clusters and of seeds.

    Attributes:
        clusters: the draws of clusters.
        seeds: how often each draw has each seed. Shape ``(draws, seeds)``.
    """

    clusters: Draws
    seeds: np.ndarray

    @classmethod
    def of(cls, items: Items, *, seeds: int, draws: int, seed: int) -> Sample:
        """Draw the clusters of a test set, and seeds; clusters first, so that they do not depend on the seeds."""
        generator = np.random.default_rng(seed)
        clusters = draw(items, draws=draws, generator=generator)
        return cls(clusters, with_replacement(seeds, draws=draws, generator=generator))

    def values(self, measure: Measure, runs: Sequence[Items]) -> np.ndarray:
        """Return the value of each draw of clusters for each seed. Shape ``(draws, seeds)``."""
        return np.stack([measure.values(run, self.clusters.multiplicities) for run in runs], axis=1)

    def spread(self, values: np.ndarray, points: np.ndarray, *, level: float) -> Spread:
        """Return standard error and interval of the mean over seeds.

        A draw takes seeds, and the same clusters for all of them, since all were tested on the same speakers.

        Args:
            values: the values, or differences, of the draws. Shape ``(draws, seeds)``.
            points: those of the whole test set. Shape ``(seeds,)``.
            level: the probability that the interval is to cover.
        """
        known = np.isfinite(values).all(axis=1)
        values, taken = values[known], self.seeds[known]
        clusters, count = self.clusters.multiplicities.shape[1], values.shape[1]
        if not np.isfinite(points).all():
            return Spread((None, None, None), 0, "the value is not finite")
        if not self.clusters.freedom or len(values) < 2:
            return Spread((None, None, None), len(values), f"only {counted(clusters, 'cluster')}")
        over_clusters = (values.mean(axis=1).std(ddof=1) * self.clusters.correction) ** 2
        over_seeds = points.var(ddof=1) / count if count > 1 else 0.0
        error = math.sqrt(over_clusters + over_seeds)
        freedom = float(self.clusters.freedom)
        if count > 1 and error > 0:  # Welch and Satterthwaite's, of the sum of two variances
            freedom = error**4 / (over_clusters**2 / freedom + over_seeds**2 / (count - 1))
        drawn = (values * taken).sum(axis=1) / count
        low, high = limits(drawn, error=error, freedom=freedom, level=level)
        return Spread((error, low, high), len(values), self._rough(clusters, error))

    def _rough(self, clusters: int, error: float) -> str:
        if clusters < FEW:
            return f"fewer than {FEW} clusters"
        return "" if error > 0 else "all draws are equal"
