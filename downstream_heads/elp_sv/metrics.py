"""Equal error rate, detection cost and score normalisation."""

import math

import numpy as np
from sklearn.metrics import roc_curve


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Where the misses equal the false alarms, in per cent.

    The crossing of the line `misses = false alarms` with the ROC's straight segments: the number that SUPERB finds with
    a root search (sv_voxceleb1/utils.py:10), but also where that search has no answer (all scores equal, a vertical
    segment at the crossing).

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.

    Returns:
        0 to 100; nan for scores that are no numbers, as after a diverged training.

    Raises:
        ValueError: only one kind of trial.
    """
    if not np.isfinite(scores).all():
        return math.nan
    false_alarms, hits = _operating_points(labels, scores)
    excess = 1.0 - hits - false_alarms  # falls from 1 to -1 along the curve
    after = int(np.argmax(excess <= 0))
    before = after - 1
    part = excess[before] / (excess[before] - excess[after])
    return 100.0 * float(false_alarms[before] + part * (false_alarms[after] - false_alarms[before]))


def eer_threshold(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The score from which on a pair counts as one speaker, such that misses and false alarms are most nearly equal.

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.

    Returns:
        One of the scores; None for scores that are no numbers.
    """
    if not np.isfinite(scores).all():
        return None
    false_alarms, hits, thresholds = roc_curve(labels, np.asarray(scores, dtype=float), drop_intermediate=False)
    unequal = np.abs(1.0 - hits - false_alarms)[1:]  # the first threshold lies above all scores
    return float(thresholds[1:][np.argmin(unequal)])


def min_dcf(
    labels: np.ndarray, scores: np.ndarray, *, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """NIST's normalised detection cost at the best threshold: 0 is perfect, 1 is what a blind answer reaches.

    Args:
        labels: 1 for the same speaker, 0 for two speakers. Shape: `(trials,)`.
        scores: higher means more alike. Shape: `(trials,)`.
        p_target: assumed share of trials with the same speaker.
        c_miss: cost of a missed target.
        c_fa: cost of a false alarm.

    Returns:
        0 to 1, no rate; nan for scores that are no numbers.
    """
    if not np.isfinite(scores).all():
        return math.nan
    false_alarms, hits = _operating_points(labels, scores)
    cost = c_miss * p_target * (1.0 - hits) + c_fa * (1.0 - p_target) * false_alarms
    return float(cost.min() / min(c_miss * p_target, c_fa * (1.0 - p_target)))


def symmetric_norm(scores: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """S-norm with all of the cohort (L-E reference): each score relative to both sides' scores against strangers.

    Args:
        scores: shape `(trials,)`.
        left: scores of each trial's first utterance against the cohort, shape `(trials, cohort)`.
        right: the same for the second utterance.

    Returns:
        Normalised scores, shape `(trials,)`.
    """
    first = (scores - left.mean(axis=1)) / left.std(axis=1, ddof=1)
    second = (scores - right.mean(axis=1)) / right.std(axis=1, ddof=1)
    return 0.5 * (first + second)


def _operating_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False alarm and hit rates over all thresholds, both rising from 0 to 1."""
    labels = np.asarray(labels, dtype=int)
    if labels.size == 0 or labels.min() == labels.max():
        raise ValueError("error rates need trials of the same speaker and of two speakers")
    false_alarms, hits, _ = roc_curve(labels, np.asarray(scores, dtype=float))
    return false_alarms, hits
