"""Equal error rate, detection cost and score normalisation."""

import math

import numpy as np
from sklearn.metrics import roc_curve


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the rate at which misses equal false alarms, in per cent.

    This is where the line `misses = false alarms` crosses the straight segments of the ROC: the number that SUPERB
    finds by a root search (sv_voxceleb1/utils.py:10), but also defined where that search fails (all scores equal, a
    vertical segment at the crossing).

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.

    Returns:
        0 to 100; nan for scores that are not finite, as after diverged training.

    Raises:
        ValueError: there is only one kind of trial.
    """
    if not np.isfinite(scores).all():
        return math.nan
    false_alarms, hits = _operating_points(labels, scores)
    excess = 1.0 - hits - false_alarms  # decreases from 1 to -1 along the curve
    after = int(np.argmax(excess <= 0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return 100.0 * float(false_alarms[before] + part * (false_alarms[after] - false_alarms[before]))


def eer_threshold(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the lowest score of a pair of the same speaker, so that misses and false alarms are most nearly equal.

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.

    Returns:
        One of the scores; None for scores that are not finite.
    """
    if not np.isfinite(scores).all():
        return None
    false_alarms, hits, thresholds = roc_curve(labels, np.asarray(scores, dtype=float), drop_intermediate=False)
    unequal = np.abs(1.0 - hits - false_alarms)[1:]  # the first threshold is above all scores
    return float(thresholds[1:][np.argmin(unequal)])


def min_dcf(
    labels: np.ndarray, scores: np.ndarray, *, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return NIST's normalised detection cost at the best threshold: 0 is perfect, 1 is a constant answer.

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.
        p_target: assumed share of trials with the same speaker.
        c_miss: cost of a missed target.
        c_fa: cost of a false alarm.

    Returns:
        0 to 1 (not per cent); nan for scores that are not finite.
    """
    if not np.isfinite(scores).all():
        return math.nan
    false_alarms, hits = _operating_points(labels, scores)
    cost = c_miss * p_target * (1.0 - hits) + c_fa * (1.0 - p_target) * false_alarms
    return float(cost.min() / min(c_miss * p_target, c_fa * (1.0 - p_target)))


def symmetric_norm(
    scores: np.ndarray, against: np.ndarray, first: np.ndarray, second: np.ndarray, *, top: int | None = None
) -> np.ndarray:
    """Normalise the scores of trials by those of both sides against a cohort.

    With the whole cohort, this is s-norm, as in the L-E reference. With ``top``, it is adaptive s-norm (AS-norm): each
    side is normalised by the part of the cohort that is most like it.

    Args:
        scores: shape `(trials,)`.
        against: scores of each utterance against the cohort, shape `(utterances, cohort)`.
        first: each trial's first utterance, as a row of `against`. Shape: `(trials,)`.
        second: the same for the second utterance.
        top: number of highest scores of each utterance to use; None uses all.

    Returns:
        Normalised scores, shape `(trials,)`.
    """
    if top is not None and top < against.shape[1]:
        against = np.partition(against, -top, axis=1)[:, -top:]
    mean, deviation = against.mean(axis=1), against.std(axis=1, ddof=1)  # (utterances,)
    left, right = ((scores - mean[side]) / deviation[side] for side in (first, second))
    return 0.5 * (left + right)


def _operating_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the false alarm and hit rates over all thresholds, both increasing from 0 to 1."""
    labels = np.asarray(labels, dtype=int)
    if labels.size == 0 or labels.min() == labels.max():
        raise ValueError("error rates need trials of the same speaker and of two speakers")
    false_alarms, hits, _ = roc_curve(labels, np.asarray(scores, dtype=float))
    return false_alarms, hits
