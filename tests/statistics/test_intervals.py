"""Intervals: against other libraries, and how often they contain the truth."""

import json

import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.statistics_toys import (
    TRUE_ACCURACY,
    TRUE_EER,
    TRUE_RATE,
    answers,
    covered,
    names,
    transcripts,
    trials,
)
from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Interval, Items, estimate, interval, join_folds, over_seeds

# against other libraries ---------------------------------------------------------------------------------------------


def per_cluster(items, column):
    return np.bincount(items.places[0], weights=items.columns[column])


def scipys(items, count):
    """SciPy's bootstrap over speakers at the level that our correction for few of them comes to."""
    tail = stats.norm.cdf(stats.t.ppf(0.025, count - 1) * np.sqrt(count / (count - 1)))
    return stats.bootstrap(
        (per_cluster(items, "wer_errors"), per_cluster(items, "wer_total")),
        lambda errors, words, axis: 100 * errors.sum(axis=axis) / words.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=1 - 2 * tail,
        rng=np.random.default_rng(0),
    )


@pytest.mark.parametrize("count", [8, 30])
def test_like_scipy(count):
    items = transcripts(np.random.default_rng(count), count)
    other = scipys(items, count)
    ours = interval(items, draws=20_000)
    assert ours.se == pytest.approx(other.standard_error * np.sqrt(count / (count - 1)), rel=0.03)
    width = ours.high - ours.low
    assert ours.low == pytest.approx(other.confidence_interval.low, abs=0.04 * width)
    assert ours.high == pytest.approx(other.confidence_interval.high, abs=0.04 * width)


def test_like_kaldialign_over_utterances():
    """Bisani and Ney's interval, which resamples utterances, as ours does if no speaker is known."""
    rng = np.random.default_rng(0)
    references = [rng.integers(0, 50, size=rng.integers(3, 15)).tolist() for _ in range(300)]
    hypotheses = [[word if rng.random() > 0.2 else 99 for word in row] for row in references]
    other = kaldialign.bootstrap_wer_ci(references, hypotheses)
    errors = [sum(a != b for a, b in zip(*pair, strict=True)) for pair in zip(references, hypotheses, strict=True)]
    columns = {"wer_errors": errors, "wer_total": [len(row) for row in references]}
    items = Items([str(i) for i in range(300)], [""] * 300, columns)
    ours = interval(items, draws=10_000)
    assert ours.value == pytest.approx(100 * other["wer"], abs=0.05)
    assert ours.high - ours.low == pytest.approx(100 * (other["ci95max"] - other["ci95min"]), rel=0.04)
    assert ours.units == "300 items without a speaker"


def test_t_interval_of_equal_speakers():
    """Speakers with as many items each are a plain sample, for which a t interval is the known answer."""
    rng = np.random.default_rng(1)
    shares = rng.normal(70, 5, size=25)
    items = Items([str(i) for i in range(25)], names(range(25)), {"acc": shares / 100})
    ours, known = interval(items, draws=20_000), stats.t.interval(0.95, 24, shares.mean(), stats.sem(shares))
    assert ours.se == pytest.approx(stats.sem(shares), rel=0.02)
    assert (ours.low, ours.high) == pytest.approx(known, abs=0.08 * (known[1] - known[0]))


# coverage ------------------------------------------------------------------------------------------------------------


def quick(items):
    return interval(items, draws=300)


@pytest.mark.parametrize(
    ("make", "truth"), [(answers, TRUE_ACCURACY), (transcripts, TRUE_RATE)], ids=["accuracy", "error rate"]
)
@pytest.mark.parametrize("speakers", [12, 25])
def test_coverage(make, truth, speakers):
    assert 92 <= covered(lambda rng: make(rng, speakers), truth, runs=500, interval=quick) <= 98


@pytest.mark.slow
def test_coverage_of_equal_error_rates():
    assert 92 <= covered(lambda rng: trials(rng, 12), TRUE_EER, runs=250, interval=quick) <= 98


def test_items_without_their_speakers_promise_too_much():
    """The reason for resampling speakers: items of one speaker are alike."""

    def forgotten(rng):
        items = answers(rng)
        return Items(items.keys, [""] * len(items), items.columns)

    assert covered(forgotten, TRUE_ACCURACY, runs=300, interval=quick) < 85


@pytest.mark.slow
def test_coverage_over_seeds_and_speakers():
    """Trainings differ by 3 percentage points, and all are tested on the same speakers."""

    def trained(rng):
        first = answers(rng, 20)
        runs = []
        for shift in rng.normal(0, 3, size=5):
            columns = {"acc": first.columns["acc"] + shift / 100}
            runs.append(Items(first.keys, first.speaker, columns))
        return runs

    assert 92 <= covered(trained, TRUE_ACCURACY, runs=500, interval=quick) <= 98
    # the interval of one training covers only what comes from the speakers
    assert covered(lambda rng: trained(rng)[0], TRUE_ACCURACY, runs=500, interval=quick) < 92


def test_coverage_of_a_mean_over_folds():
    def folded(rng):
        parts = {}
        for fold in range(5):
            part = answers(rng, 4)
            parts[f"fold{fold}"] = Items(part.keys, [f"{fold}-{who}" for who in part.speaker], part.columns)
        return join_folds(parts)

    assert 92 <= covered(folded, TRUE_ACCURACY, runs=500, interval=quick) <= 98


# shapes and special cases --------------------------------------------------------------------------------------------

tables = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(rows=tables, seed=st.integers(0, 99), shuffle=st.randoms(use_true_random=False))
def test_any_items_have_an_ordered_interval_that_ignores_their_order(rows, seed, shuffle):
    rows = [(f"item{place}", *row) for place, row in enumerate(rows)]
    mixed = shuffle.sample(rows, len(rows))

    def of(rows):
        keys, speakers, errors, words = zip(*rows, strict=True)
        return interval(Items(keys, speakers, {"wer_errors": errors, "wer_total": words}), draws=100, seed=seed)

    found, again = of(rows), of(mixed)
    for name, value in found.to_dict().items():
        other = getattr(again, name)
        assert other == value or other == pytest.approx(value, rel=1e-9)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert Interval.from_dict(found.to_dict()) == found
    clusters = len({speaker or key for key, speaker, *_ in rows})
    assert found.clusters == clusters and found.unknown == sum(not row[1] for row in rows)
    assert (found.se is None) == (clusters == 1)
    assert bool(found.rough) or clusters >= 10
    if found.se is not None:
        assert found.se >= 0 and found.low <= found.high


def test_what_it_says():
    items = answers(np.random.default_rng(0), 20)
    found = interval(items)
    expected = f"{found.value:.2f} % ± {found.se:.2f} (95 % {found.low:.2f} to {found.high:.2f}, 20 speakers)"
    assert str(found) == expected
    few = interval(answers(np.random.default_rng(0), 2))
    assert "2 speakers, rough: fewer than 10 clusters)" in str(few)
    assert few.high - few.low > found.high - found.low
    one = interval(answers(np.random.default_rng(0), 1))
    assert (one.se, one.low, one.high) == (None, None, None) and str(one).endswith("(no interval: only 1 cluster)")
    mixed = Items(items.keys, ["", *items.speaker[1:]], items.columns)
    assert "20 speakers, 1 item without one)" in str(interval(mixed))
    perfect = Items(items.keys, items.speaker, {"acc": np.ones(len(items))})
    assert interval(perfect).rough == "all draws are equal"


def test_a_value_that_is_not_finite_has_no_interval():
    items = trials(np.random.default_rng(0), 12, 2)
    bad = Items(items.keys, items.speaker, {**items.columns, "score": np.full(len(items), np.nan)}, items.second)
    found = interval(bad)
    assert found.se is None and found.rough == "the value is not finite" and found.to_dict()["value"] is None


def test_the_same_seed_gives_the_same_draws():
    items = answers(np.random.default_rng(0))
    assert interval(items) == interval(items) != interval(items, seed=1)
    assert interval(items, level=0.8).high < interval(items).high


def test_seeds():
    known = over_seeds([70.0, 72.0, 74.0])
    assert (known.mean, known.sd, known.count) == (72.0, 2.0, 3) and known.se == pytest.approx(2 / 3**0.5)
    assert (over_seeds([3.0]).sd, over_seeds([3.0]).se) == (None, None)
    runs = [answers(np.random.default_rng(0)) for _ in range(3)]
    runs[1] = Items(runs[1].keys, runs[1].speaker, {"acc": np.ones(len(runs[1]))})
    found = interval(runs)
    values = [estimate(run) for run in runs]
    assert found.value == pytest.approx(np.mean(values)) and found.seed_sd == pytest.approx(np.std(values, ddof=1))
    assert found.seeds == 3 and "20 speakers, 3 seeds" in str(found)
    assert found.se > interval(runs[0]).se


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda items: interval(items, draws=10), "draws must be a whole number of at least 100, but is 10"),
        (lambda items: interval(items, level=95), "level must be a share from 0.5 to below 1, but is 95"),
        (lambda items: interval([]), "results must be Items or a list with one Items for each seed"),
        (lambda items: over_seeds([]), "values over seeds must be at least one finite number, but are []"),
        (lambda items: over_seeds([1.0, float("nan")]), "values over seeds must be at least one finite number"),
    ],
)
def test_wrong_options(call, sentence):
    with pytest.raises(ElpError) as caught:
        call(answers(np.random.default_rng(0)))
    assert str(caught.value).startswith(sentence)
