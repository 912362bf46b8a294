"""Measures of weighted items: shares, error rates, mean recalls and equal error rates, in per cent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upstream_elp.base.errors import ElpError
from upstream_elp.statistics.equal_errors import equal_error_rates, shares
from upstream_elp.statistics.items import ERRORS, SAME, SCORE, TOTAL, Items


@dataclass(frozen=True)
class Measure:
    """How to compute a measure.

    Attributes:
        name: such as ``wer``.
        higher_is_better: whether a larger value is better.
    """

    name: str
    higher_is_better: bool

    @property
    def is_linear(self) -> bool:
        """Whether the measure is a sum over items, given their denominators."""
        return self.name != "eer"

    def values(self, items: Items, multiplicities: np.ndarray) -> np.ndarray:
        """Return the measure for each draw of clusters; nan where a draw has too little for one.

        Args:
            items: the results; with folds, the value is the mean over the folds that a draw has.
            multiplicities: how often each cluster is drawn. Shape ``(draws, clusters)``.

        Returns:
            Shape ``(draws,)``; nan everywhere if a result is not finite.
        """
        used = items.columns[SCORE] if not self.is_linear else self._fractions(items)[0]
        if not np.isfinite(used).all():  # after diverged training; the mean of the other folds would look like a result
            return np.full(len(multiplicities), np.nan)
        per_fold = [self._of(items, places, multiplicities) for places in fold_places(items)]
        return _mean_of_known(np.stack(per_fold, axis=1))

    def _of(self, items: Items, places: np.ndarray, multiplicities: np.ndarray) -> np.ndarray:
        if not self.is_linear:
            first, second = (of[places] for of in items.places)
            columns = items.columns
            return equal_error_rates(columns[SCORE][places], columns[SAME][places], first, second, multiplicities)
        above, below = self._parts(items, places)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = 100.0 * (multiplicities @ above) / (multiplicities @ below)  # (draws, classes)
        return _mean_of_known(rates)

    def _parts(self, items: Items, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return numerators and denominators per cluster and class; one class unless the measure has several."""
        numerator, denominator, classes = self._fractions(items)
        cells = (len(items.clusters), int(classes.max()) + 1)
        where = (items.places[0][places], classes[places])
        above, below = np.zeros(cells), np.zeros(cells)
        np.add.at(above, where, numerator[places])
        np.add.at(below, where, denominator[places])
        return above, below

    def _fractions(self, items: Items) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return numerator, denominator and class number of each item. Shapes ``(items,)``."""
        columns, one = items.columns, np.zeros(len(items), dtype=int)
        if self.name + ERRORS in columns:
            return columns[self.name + ERRORS], columns[self.name + TOTAL], one
        if self.name in columns:
            return columns[self.name], np.ones(len(items)), one
        _, classes = np.unique(columns["true"].astype(str), return_inverse=True)
        return (columns["predicted"] == columns["true"]).astype(float), np.ones(len(items)), classes

    def shares(self, a: Items, b: Items) -> np.ndarray:
        """Return what each cluster contributes to the difference ``b - a``. Shape ``(clusters,)``.

        For a sum over items the contributions add up to the difference, and the sign of one changes if the cluster's
        results of ``a`` and ``b`` are exchanged. An equal error rate is not such a sum; see
        :func:`upstream_elp.statistics.equal_errors.shares`.
        """
        folds = fold_places(a)
        if not self.is_linear:
            return sum(self._eer_shares(b, places) - self._eer_shares(a, places) for places in folds) / len(folds)
        total = np.zeros(len(a.clusters))
        for places in folds:
            before, below = self._parts(a, places)
            after, _ = self._parts(b, places)
            sums = below.sum(axis=0)
            known = sums > 0
            total += (100.0 * (after - before)[:, known] / sums[known]).sum(axis=1) / known.sum() / len(folds)
        return total

    def _eer_shares(self, items: Items, places: np.ndarray) -> np.ndarray:
        first, second = (of[places] for of in items.places)
        return shares(items.columns[SCORE][places], items.columns[SAME][places], first, second, len(items.clusters))


def find(items: Items, name: str | None = None) -> Measure:
    """Return a measure of these items by its name; the first one if there is none.

    Raises:
        ElpError: the items do not have it; lists those they have.
    """
    names = items.measures
    if not names:
        raise ElpError(f"per-item results must have columns of a measure, but have only: {', '.join(items.columns)}")
    if name is None:
        name = names[0]
    if name not in names:
        raise ElpError(f"measure must be one of {', '.join(names)} for these results, but is {name!r}; choose one")
    return Measure(name, higher_is_better=name != "eer" and name + ERRORS not in items.columns)


def fold_places(items: Items) -> list[np.ndarray]:
    """Return the places of each fold's items; one array with all of them if there are no folds."""
    if items.fold is None:
        return [np.arange(len(items))]
    _, numbers = np.unique(np.asarray(items.fold, dtype=str), return_inverse=True)
    return [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row's finite entries; nan for a row without any."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
