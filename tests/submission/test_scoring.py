"""The site's arithmetic against slow, plain references on many random cases."""

import random

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import accuracy_score, roc_curve

from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Items, estimate
from upstream_elp.submission.layout import BY_NAME, FOLDS
from upstream_elp.submission.scoring import POINTS, Score, points, score
from upstream_elp.submission.truth import Truth

CASES = 1000
ONE = Items(["u"], ["s"], {"acc": [1]})


def one_score(name, answers, truth):
    part = BY_NAME[name]
    content = "".join(f"{key}{part.separator}{answer}\n" for key, answer in answers.items()).encode()
    (result,) = score({part: content}, {part: Truth(truth, "made up")})
    assert estimate(result.items) == pytest.approx(result.value, abs=1e-9)  # the intervals are about the same number
    return result.value


def slow_edits(first, second):
    """The edit distance by its definition."""
    row = list(range(len(second) + 1))
    for left, word in enumerate(first, start=1):
        row, above = [left], row
        for right, other in enumerate(second, start=1):
            row.append(min(row[-1] + 1, above[right] + 1, above[right - 1] + (word != other)))
    return row[-1]


def test_word_error_rate():
    draw = random.Random(0)
    for _ in range(CASES):
        count = draw.randint(1, 4)
        texts = [" ".join(draw.choices("ABC", k=draw.randint(0, 6))) for _ in range(count)]
        true = [" ".join(draw.choices("ABC", k=draw.randint(1, 6))) for _ in range(count)]
        errors = sum(slow_edits(one.split(), other.split()) for one, other in zip(texts, true, strict=True))
        expected = 100 * errors / sum(len(text.split()) for text in true)
        keys = [f"u{number}" for number in range(count)]
        assert one_score(
            "asr_public", dict(zip(keys, texts, strict=True)), dict(zip(keys, true, strict=True))
        ) == pytest.approx(expected, abs=1e-9)


def test_equal_error_rate():
    """The root that scipy finds on the interpolated curve, to two decimals."""
    draw = np.random.default_rng(0)
    for _ in range(CASES):
        labels = np.array([0, 1, *draw.integers(0, 2, draw.integers(1, 60))])
        scores = labels * draw.uniform(0, 2) + draw.standard_normal(len(labels))
        false_alarms, hits, _ = roc_curve(labels, scores)
        expected = 100 * brentq(lambda x, f=false_alarms, h=hits: 1 - x - interp1d(f, h)(x), 0, 1)
        keys = [f"t{number}" for number in range(len(labels))]
        answers = {key: repr(float(value)) for key, value in zip(keys, scores, strict=True)}
        truth = {key: str(label) for key, label in zip(keys, labels, strict=True)}
        assert one_score("sv_public", answers, truth) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "values"),
    [("ic_public", ["a,b,c", "a,b,d", "e,b,c"]), ("er_fold1_public", ["neu", "sad", "ang"])],
)
def test_accuracy(name, values):
    draw = random.Random(1)
    for _ in range(CASES):
        keys = [f"u{number}" for number in range(draw.randint(1, 9))]
        answers, truth = ({key: draw.choice(values) for key in keys} for _ in range(2))
        expected = 100 * accuracy_score(list(truth.values()), list(answers.values()))
        part = BY_NAME[name]
        got = five_folds(answers, truth)[0].value if part.task == "er" else one_score(name, answers, truth)
        assert got == pytest.approx(expected, abs=1e-9)


def five_folds(answers, truth):
    """The scores if the first fold has these answers and the other four are all right, with one utterance each."""
    parts = [BY_NAME[f"er_{fold}_public"] for fold in FOLDS]
    contents = dict.fromkeys(parts[1:], b"u neu\n")
    truths = {part: Truth({"u": "neu"}, "made up") for part in parts[1:]}
    contents = {parts[0]: "".join(f"{key} {answer}\n" for key, answer in answers.items()).encode(), **contents}
    return score(contents, {parts[0]: Truth(truth, "made up"), **truths})


def test_er_is_the_mean_of_folds_however_long_they_are():
    scores = five_folds({"a": "neu", "b": "sad", "c": "sad", "d": "sad"}, dict.fromkeys("abcd", "neu"))
    assert [one.value for one in scores] == [25.0, 100.0, 100.0, 100.0, 100.0, 85.0]
    assert (scores[-1].name, len(scores[-1].items)) == ("ER_acc", 8)
    assert scores[-1].interval().value == pytest.approx(85)


def test_points():
    """0 at filter banks, 1,000 at the best published values; the mean needs all four tasks."""
    for index, expected in ((0, 0.0), (1, 1000.0)):
        scores = [Score(name, pair[index], ONE) for name, pair in POINTS.items()]
        assert points(scores) == pytest.approx({**dict.fromkeys(POINTS, expected), "mean": expected})
        assert "mean" not in points(scores[1:])


def test_trials_of_one_kind():
    with pytest.raises(ElpError, match="must be of the same speaker and of two speakers"):
        one_score("sv_public", {"a": "0.5"}, {"a": "1"})
