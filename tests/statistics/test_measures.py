"""Measures under multiplicities equal the measures of lists in which speakers really repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import recall_score, roc_curve

from downstream_heads.elp_sv.metrics import equal_error_rate
from tests.statistics_toys import answers, names, transcripts, trials
from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Items, estimate, join_folds
from upstream_elp.statistics.measures import find


def drawn(items, times, measure=None):
    """The value of one draw."""
    return find(items, measure).values(items, np.array([times]))[0]


def repeated(items, times):
    """The places of items whose speaker is drawn, as often as it is drawn."""
    return np.repeat(np.arange(len(items)), np.array(times)[items.places[0]])


def from_roc(same, scores):
    """The equal error rate as SUPERB finds it: a root search on the interpolated ROC."""
    alarms, hits, _ = roc_curve(same, scores, drop_intermediate=False)
    return 100.0 * brentq(lambda x: 1.0 - x - interp1d(alarms, hits)(x), 0.0, 1.0, xtol=1e-12)


def with_copies(items, times):
    """Labels and scores of trials among speakers, where each copy of a speaker is one of its own."""
    same, scores = [], []
    for score, label, a, b in zip(items.columns["score"], items.columns["same"], *items.places, strict=True):
        count = times[a] if a == b else times[a] * times[b]
        same += [label] * count
        scores += [score] * count
    return np.array(same), np.array(scores)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6), speakers=st.integers(3, 7))
def test_an_equal_error_rate_is_that_of_repeated_speakers(data, seed, speakers):
    items = trials(np.random.default_rng(seed), speakers, 3)
    coarse = Items(items.keys, items.speaker, {**items.columns, "score": items.columns["score"].round(1)}, items.second)
    times = data.draw(st.lists(st.integers(0, 3), min_size=speakers, max_size=speakers))
    same, scores = with_copies(coarse, times)
    value = drawn(coarse, times)
    if len(set(same)) < 2:
        assert np.isnan(value)
        return
    assert value == pytest.approx(equal_error_rate(same, scores), abs=1e-9)
    assert value == pytest.approx(from_roc(same, scores), abs=1e-6)


def test_draws_are_independent_of_each_other():
    """Draws are computed in chunks; every row must be that of its own draw."""
    items = trials(np.random.default_rng(0), 30, 10)  # 44,850 trials: 46 draws at a time
    rows = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=50)
    together = find(items).values(items, rows)
    apart = [find(items).values(items, row[None])[0] for row in rows]
    assert np.array_equal(together, apart) and len(set(together)) > 40


@pytest.mark.parametrize(("make", "columns"), [(answers, ("acc", None)), (transcripts, ("wer_errors", "wer_total"))])
def test_rates_are_those_of_repeated_speakers(make, columns):
    items = make(np.random.default_rng(2), 6)
    above, below = (items.columns[name] if name else np.ones(len(items)) for name in columns)
    for times in ([1] * 6, [0, 2, 1, 3, 0, 0], [0, 0, 0, 0, 6, 0]):
        places = repeated(items, times)
        assert drawn(items, times) == pytest.approx(100 * above[places].sum() / below[places].sum())


def test_mean_recall_is_that_of_the_classes_that_a_draw_has():
    rng = np.random.default_rng(3)
    true, predicted = rng.choice(["ang", "hap", "sad"], size=(2, 200))
    items = Items([str(i) for i in range(200)], names(rng.integers(0, 5, 200)), {"predicted": predicted, "true": true})
    assert items.measures == ("uacc",)
    for times in ([1] * 5, [2, 0, 1, 2, 0], [5, 0, 0, 0, 0]):
        places = repeated(items, times)
        found = recall_score(true[places], predicted[places], average="macro")
        assert drawn(items, times) == pytest.approx(100 * found)
    few = items.take(np.flatnonzero((items.places[0] > 0) | (true == "ang")))  # speaker 0 says only one class
    assert drawn(few, [3, 0, 0, 0, 0]) == pytest.approx(
        100 * np.mean(few.columns["predicted"][few.places[0] == 0] == "ang")
    )


def test_folds_count_equally():
    rng = np.random.default_rng(4)
    folds = {"fold1": answers(rng, 2), "fold2": answers(rng, 12)}
    joined = join_folds(folds)
    assert estimate(joined) == pytest.approx(np.mean([estimate(part) for part in folds.values()]))
    assert estimate(joined) != pytest.approx(100 * joined.columns["acc"].mean())


def test_scores_that_are_not_finite_have_no_value_even_in_one_fold():
    items = trials(np.random.default_rng(5), 4, 2)
    broken = items.columns["score"].copy()
    broken[3] = np.nan
    bad = Items(items.keys, items.speaker, {**items.columns, "score": broken}, items.second)
    assert np.isnan(estimate(bad)) and np.isnan(estimate(join_folds({"fold1": items, "fold2": bad})))


def test_a_measure_that_the_items_do_not_have_is_refused():
    items = answers(np.random.default_rng(6))
    with pytest.raises(ElpError, match=r"^measure must be one of acc for these results, but is 'wer'; choose one$"):
        estimate(items, "wer")
    only = Items(["a"], ["s"], {"predicted": ["x"]})
    with pytest.raises(ElpError, match="must have columns of a measure, but have only: predicted"):
        estimate(only)


def test_directions():
    rng = np.random.default_rng(7)
    assert find(answers(rng)).higher_is_better
    assert not find(transcripts(rng)).higher_is_better and not find(trials(rng)).higher_is_better
