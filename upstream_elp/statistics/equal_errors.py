"""Equal error rates of trials whose speakers are drawn, and each speaker's part in one."""

from __future__ import annotations

import numpy as np

CHUNK = 1 << 21
"""Weights of trials that are held at a time."""


def equal_error_rates(
    scores: np.ndarray, same: np.ndarray, first: np.ndarray, second: np.ndarray, multiplicities: np.ndarray
) -> np.ndarray:
    """Return the equal error rate of each draw of speakers, in per cent.

    A speaker that is drawn twice counts as two speakers with the same voice. Of the trials of one speaker there are
    then two copies, and of the trials of two speakers as many as the product of both multiplicities; trials between
    copies of one speaker do not exist. The rate is where misses equal false alarms on the straight lines between
    operating points, as in the task's own value.

    Args:
        scores: finite; higher means more alike. Shape ``(trials,)``.
        same: 1 for trials of one speaker, 0 for those of two. Shape ``(trials,)``.
        first: number of each trial's first speaker. Shape ``(trials,)``.
        second: number of each trial's second speaker. Shape ``(trials,)``.
        multiplicities: shape ``(draws, speakers)``.

    Returns:
        Shape ``(draws,)``; nan for draws without both kinds of trials.
    """
    draws = len(multiplicities)
    order, ends = _ranking(scores)
    first, second, target = first[order], second[order], same[order] == 1
    both, weights = first != second, np.asarray(multiplicities, dtype=float)
    rates = np.empty(draws)
    step = max(1, CHUNK // len(scores))
    for start in range(0, draws, step):
        drawn = weights[start : start + step]
        weight = drawn[:, first] * np.where(both, drawn[:, second], 1.0)  # (draws, trials)
        hits = np.cumsum(weight * target, axis=1)[:, ends]
        alarms = np.cumsum(weight * ~target, axis=1)[:, ends]
        rates[start : start + step] = _crossings(hits, alarms)
    return rates


def shares(scores: np.ndarray, same: np.ndarray, first: np.ndarray, second: np.ndarray, speakers: int) -> np.ndarray:
    """Return each speaker's part in the equal error rate of all trials; they add up to nearly that rate.

    A part is the jackknife's pseudo-value over the number of speakers. The jackknife is not valid for the rate itself,
    which jumps from one trial's score to the next. It is for the rate's linear form: misses and false alarms at the
    fixed threshold, weighted by the slopes of both rates there, which accounts for the threshold's own uncertainty.

    Args:
        scores: finite; higher means more alike. Shape ``(trials,)``.
        same: 1 for trials of one speaker, 0 for those of two. Shape ``(trials,)``.
        first: number of each trial's first speaker. Shape ``(trials,)``.
        second: number of each trial's second speaker. Shape ``(trials,)``.
        speakers: how many speakers there are; those without trials have a part of 0.

    Returns:
        In per cent, shape ``(speakers,)``; nan if there is only one kind of trial.
    """
    errors, weight = _errors(scores, same == 1)
    present = np.unique(np.concatenate([first, second]))
    whole, rest = 0.0, np.zeros(speakers)
    for kind, share in ((same == 1, weight), (same != 1, 1.0 - weight)):
        count, sums = (_touching(values, first[kind], second[kind], speakers) for values in (None, errors[kind]))
        with np.errstate(invalid="ignore", divide="ignore"):
            whole += share * errors[kind].mean()
            left = kind.sum() - count
            rest += share * np.where(left > 0, (errors[kind].sum() - sums) / left, errors[kind].mean())
    parts = np.zeros(speakers)
    parts[present] = 100.0 * (whole - (len(present) - 1) / len(present) * rest[present])
    return parts


def _touching(values: np.ndarray | None, first: np.ndarray, second: np.ndarray, speakers: int) -> np.ndarray:
    """Return the sum of each speaker's trials; their number without values."""
    values = np.ones(len(first)) if values is None else values
    other = np.where(first == second, 0.0, values)  # a trial of one speaker counts once
    return np.bincount(first, values, speakers) + np.bincount(second, other, speakers)


def _errors(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Return how wrong each trial is where misses equal false alarms, from 0 to 1, and the weight of misses."""
    order, ends = _ranking(scores)
    hits = np.append(0, np.cumsum(target[order])[ends]) / target.sum()
    alarms = np.append(0, np.cumsum(~target[order])[ends]) / (~target).sum()
    excess = 1.0 - hits - alarms
    after = int(np.argmax(excess <= 0))
    part = excess[after - 1] / (excess[after - 1] - excess[after])
    group = np.empty(len(scores), dtype=int)  # the threshold from which on a trial is accepted
    group[order] = np.repeat(np.arange(1, len(ends) + 1), np.diff(ends, prepend=-1))
    accepted = np.where(group < after, 1.0, np.where(group == after, part, 0.0))
    rate = min(float(alarms[after - 1] + part * (alarms[after] - alarms[after - 1])), 0.5)
    # slopes over the thresholds at which misses and false alarms differ by less than the rate itself
    start, end = np.flatnonzero(excess >= rate)[-1], np.argmax(excess <= -rate)
    rise = alarms[end] - alarms[start]
    return np.where(target, 1.0 - accepted, accepted), float(rise / (rise + hits[end] - hits[start]))


def _ranking(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of falling scores, and the last place of each different score."""
    order = np.argsort(-scores, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)


def _crossings(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """Return where misses equal false alarms, from cumulative weights of shape ``(draws, thresholds)``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        hits, alarms = hits / hits[:, -1:], alarms / alarms[:, -1:]
    rows, start = np.arange(len(hits)), np.zeros((len(hits), 1))
    alarms = np.hstack([start, alarms])
    excess = np.hstack([start + 1.0, 1.0 - hits]) - alarms  # from 1 to -1; nan if a kind is missing
    after = np.argmax(excess <= 0, axis=1)
    before = np.maximum(after - 1, 0)
    upper, lower = excess[rows, before], excess[rows, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = upper / (upper - lower)
        found = 100.0 * (alarms[rows, before] + part * (alarms[rows, after] - alarms[rows, before]))
    return np.where(np.isfinite(excess[:, -1]), found, np.nan)
