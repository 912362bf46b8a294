"""The site's arithmetic: word error rate, equal error rate, accuracies, and SUPERB points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import editdistance
import numpy as np

from downstream_heads.elp_sv.metrics import equal_error_rate
from upstream_elp.base.errors import ElpError
from upstream_elp.submission.layout import FOLDS, Part
from upstream_elp.submission.lines import checked
from upstream_elp.submission.truth import Truth

POINTS = {
    "ASR_wer": (23.18, 3.62),
    "SV_eer": (9.56, 5.11),
    "ER_acc": (48.23672168, 67.62),
    "IC_acc": (9.649354219, 98.76),
}
"""Metric -> its value with filter banks, which gives 0 points, and the best published one, which gives 1,000."""
_METRIC = {
    "asr": ("ASR", "wer"),
    "asr_lm": ("ASR_LM", "wer"),
    "sv": ("SV", "eer"),
    "er": ("ER", "acc"),
    "ic": ("IC", "acc"),
}


@dataclass(frozen=True)
class Score:
    """One number of the site.

    Attributes:
        name: the metric, such as `ASR_wer`.
        value: in per cent.
        items: how many utterances or trials it is about.
        part: the part that it is of; None for the mean of ER's folds.
    """

    name: str
    value: float
    items: int
    part: Part | None = None


def score(contents: Mapping[Part, bytes], truths: Mapping[Part, Truth]) -> list[Score]:
    """Score every part, and ER over its folds.

    Args:
        contents: the bytes of each part's file.
        truths: the true answers of each part.

    Returns:
        The scores in the site's order; ER's mean, the site's `ER_acc`, follows the folds.

    Raises:
        ElpError: a file is not complete or not well formed, or ER has fewer than five folds.
    """
    expected = {part: truth.answers for part, truth in truths.items()}
    answers = checked(contents, expected, names={part: part.path for part in contents})
    scores = [_score(part, answers[part], expected[part]) for part in contents]
    folds = [one for one in scores if one.part is not None and one.part.task == "er"]
    if folds and len(folds) < len(FOLDS):
        there = ", ".join(one.part.name for one in folds if one.part)
        raise ElpError(
            f"a submission of ER must contain five folds, but has only {there} (the site would show no ER score); "
            "evaluate the others and pack them again"
        )
    if folds:
        mean = sum(one.value for one in folds) / len(folds)
        scores.insert(scores.index(folds[-1]) + 1, Score("ER_acc", mean, sum(one.items for one in folds)))
    return scores


def _score(part: Part, answers: Mapping[str, str], truth: Mapping[str, str]) -> Score:
    task, metric = _METRIC[part.task]
    name = f"ER_{part.name.split('_')[1]}_acc" if part.task == "er" else f"{task}_{metric}"
    rows = [(answers[key], truth[key]) for key in truth]
    return Score(name, _VALUE[metric](rows, part.path), len(rows), part)


def _word_error_rate(rows: Sequence[tuple[str, str]], where: str) -> float:
    """Return the word edits over the reference words; both are split at single spaces, as on the site."""
    errors = sum(editdistance.eval(guessed.split(" "), true.split(" ")) for guessed, true in rows)
    words = sum(len(true.split(" ")) for _, true in rows)
    return 100.0 * errors / words


def _accuracy(rows: Sequence[tuple[str, str]], where: str) -> float:
    return 100.0 * sum(guessed == true for guessed, true in rows) / len(rows)


def _equal_error_rate(rows: Sequence[tuple[str, str]], where: str) -> float:
    labels = np.asarray([int(true) for _, true in rows])
    if labels.min() == labels.max():
        raise ElpError(f"{where}: the trials must be of the same speaker and of two speakers, but are of one kind only")
    return equal_error_rate(labels, np.asarray([float(guessed) for guessed, _ in rows]))


_VALUE = {"wer": _word_error_rate, "eer": _equal_error_rate, "acc": _accuracy}


def points(scores: Sequence[Score]) -> dict[str, float]:
    """Return the SUPERB points of each task: 0 for filter banks, 1,000 for the best published value.

    Returns:
        Points by metric, and `mean` if all four tasks are there; the site leaves it undefined otherwise.
    """
    values = {one.name: one.value for one in scores}
    found = {
        name: 1000 * (values[name] - least) / (best - least) for name, (least, best) in POINTS.items() if name in values
    }
    return {**found, "mean": sum(found.values()) / len(found)} if len(found) == len(POINTS) else found


def to_dict(scores: Sequence[Score], remarks: Sequence[str]) -> dict[str, Any]:
    """Return the scores as plain values for JSON; nothing is rounded."""
    return {
        "scores": {one.name: {"value": one.value, "items": one.items} for one in scores},
        "points": points(scores),
        "remarks": list(remarks),
    }
