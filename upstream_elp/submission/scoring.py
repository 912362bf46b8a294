"""The site's arithmetic: word error rate, equal error rate, accuracies, and SUPERB points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from downstream_heads.common.metrics import edit_errors
from downstream_heads.elp_sv.metrics import equal_error_rate
from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Interval, Items, interval, join_folds
from upstream_elp.submission.layout import FOLDS, Part
from upstream_elp.submission.lines import checked
from upstream_elp.submission.truth import Truth, speaker_of, speakers_in

POINTS = {
    "ASR_wer": (23.18, 3.62),
    "SV_eer": (9.56, 5.11),
    "ER_acc": (48.23672168, 67.62),
    "IC_acc": (9.649354219, 98.76),
}
"""Metric -> its value with filter banks, which gives 0 points, and SUPERB's reference value, which gives 1,000.

Newer models exceed the reference values.
"""
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
        items: the result of each utterance or trial.
        part: the part that it is of; None for the mean of ER's folds.
    """

    name: str
    value: float
    items: Items
    part: Part | None = None

    def interval(self) -> Interval:
        """Return the value's standard error and interval over speakers."""
        return interval(self.items)


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
    scores = [_score(part, answers[part], truths[part]) for part in contents]
    folds = {one.part: one for one in scores if one.part is not None and one.part.task == "er"}
    if folds and len(folds) < len(FOLDS):
        there = ", ".join(part.name for part in folds)
        raise ElpError(
            f"a submission of ER must contain five folds, but has only {there} (the site would show no ER score); "
            "evaluate the others and pack them again"
        )
    if folds:
        mean = sum(one.value for one in folds.values()) / len(folds)
        joined = join_folds({part.name: one.items for part, one in folds.items()})
        last = max(place for place, one in enumerate(scores) if one.part in folds)
        scores.insert(last + 1, Score("ER_acc", mean, joined))
    return scores


def _score(part: Part, answers: Mapping[str, str], truth: Truth) -> Score:
    task, metric = _METRIC[part.task]
    name = f"ER_{part.name.split('_')[1]}_acc" if part.task == "er" else f"{task}_{metric}"
    rows = [(answers[key], true) for key, true in truth.answers.items()]
    value, columns = _MEASURE[metric](rows, part.path)
    keys = list(truth.answers)
    if part.task == "sv":
        pairs = [speakers_in(key) or ("", "") for key in keys]
        return Score(name, value, Items(keys, [pair[0] for pair in pairs], columns, [pair[1] for pair in pairs]), part)
    return Score(name, value, Items(keys, [speaker_of(part, key, truth) for key in keys], columns), part)


Measured = tuple[float, dict[str, np.ndarray]]
"""A value in per cent, and the columns of the utterances' results behind it."""


def _word_error_rate(rows: Sequence[tuple[str, str]], where: str) -> Measured:
    """Return the word edits over the reference words; both are split at single spaces, as on the site."""
    guessed, true = ([text.split(" ") for text in texts] for texts in zip(*rows, strict=True))
    errors, words = np.array(edit_errors(guessed, true)), np.array([len(each) for each in true])
    return 100.0 * float(errors.sum() / words.sum()), {"wer_errors": errors, "wer_total": words}


def _accuracy(rows: Sequence[tuple[str, str]], where: str) -> Measured:
    right = np.array([guessed == true for guessed, true in rows])
    return 100.0 * float(right.sum() / len(rows)), {"acc": right}


def _equal_error_rate(rows: Sequence[tuple[str, str]], where: str) -> Measured:
    same, scores = np.array([int(true) for _, true in rows]), np.array([float(guessed) for guessed, _ in rows])
    if same.min() == same.max():
        raise ElpError(f"{where}: the trials must be of the same speaker and of two speakers, but are of one kind only")
    return equal_error_rate(same, scores), {"score": scores, "same": same}


_MEASURE = {"wer": _word_error_rate, "eer": _equal_error_rate, "acc": _accuracy}


def points(scores: Sequence[Score]) -> dict[str, float]:
    """Return the SUPERB points of each task: 0 for filter banks, 1,000 for SUPERB's reference value.

    Returns:
        Points by metric, and `mean` if all four tasks are there; the site leaves it undefined otherwise.
    """
    return points_of({one.name: one.value for one in scores})


def points_of(values: Mapping[str, float]) -> dict[str, float]:
    """Return the SUPERB points of values in per cent by metric, as :func:`points` does."""
    found = {
        name: 1000 * (values[name] - least) / (best - least) for name, (least, best) in POINTS.items() if name in values
    }
    return {**found, "mean": sum(found.values()) / len(found)} if len(found) == len(POINTS) else found


def to_dict(scores: Sequence[Score], remarks: Sequence[str]) -> dict[str, Any]:
    """Return the scores as plain values for JSON; nothing is rounded."""
    return {
        "scores": {
            one.name: {"value": one.value, "items": len(one.items), "interval": one.interval().to_dict()}
            for one in scores
        },
        "points": points(scores),
        "remarks": list(remarks),
    }
