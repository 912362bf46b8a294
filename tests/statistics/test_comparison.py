"""Comparisons: against other libraries, and how often they find what is not there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tests.statistics_toys import answers, names, transcripts, trials
from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Items, compare, compare_all, estimate, holm, interval, join_folds, sign_flip
from upstream_elp.statistics.equal_errors import shares
from upstream_elp.statistics.measures import find


def other_method(items, rng, *, better=0.0):
    """Results of another method on the same items: partly the same, partly its own."""
    column = next(name for name in ("acc", "wer_errors", "score") if name in items.columns)
    values = items.columns[column]
    if column == "acc":
        again = rng.random(len(items)) < 0.3
        values = np.where(again, rng.random(len(items)) < 0.7 + better, values)
    elif column == "score":
        values = values + 0.7 * rng.normal(size=len(items))
    else:
        values = rng.poisson(values * (1 - better) + 0.1)
    return Items(items.keys, items.speaker, {**items.columns, column: values.astype(float)}, items.second, items.fold)


# against other libraries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clusters", [5, 9, 40])
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_sign_flips_like_scipy(clusters, mean):
    """Few clusters are flipped in all ways by both, so p is equal; for more, both draw."""
    shares = np.random.default_rng(clusters).normal(mean, 1, size=clusters)
    other = stats.permutation_test(
        (shares, np.zeros(clusters)),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    p = sign_flip(shares)
    assert p == pytest.approx(other.pvalue, abs=1e-12 if clusters < 13 else 0.02)


def test_ties_count_as_extreme():
    assert sign_flip(np.zeros(4)) == 1.0
    assert sign_flip(np.array([0.1, 0.2, 0.3])) == 2 / 8  # as is, and all signs changed
    assert sign_flip(np.array([0.1, 0.2, -0.3])) == 1.0  # whatever rounding leaves of zero
    assert sign_flip(np.ones(30)) == pytest.approx(1e-4)  # never zero, as the result itself is one of the flips


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_like_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-12)


def test_no_comparison_needs_no_adjustment():
    assert holm([]) == []


def test_the_difference_like_scipys_paired_bootstrap():
    rng = np.random.default_rng(0)
    a = transcripts(rng, 30)
    b = other_method(a, rng, better=0.2)
    sums = [np.bincount(a.places[0], weights=run.columns["wer_errors"]) for run in (a, b)]
    words = np.bincount(a.places[0], weights=a.columns["wer_total"])
    other = stats.bootstrap(
        (*sums, words),
        lambda x, y, n, axis: 100 * (y - x).sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=rng,
    )
    ours = compare(a, b, draws=20_000)
    assert ours.difference == pytest.approx(estimate(b) - estimate(a))
    assert ours.se == pytest.approx(other.standard_error * np.sqrt(30 / 29), rel=0.03)
    assert ours.se < 0.8 * np.hypot(interval(a).se, interval(b).se), "pairs are more certain than two test sets"


# laws ----------------------------------------------------------------------------------------------------------------


def folded(rng):
    """Two folds of two emotions, without a column for the accuracy: the mean recall is the only measure."""
    parts = {}
    for fold in ("fold1", "fold2"):
        items = answers(rng, 6)
        true = rng.choice(["ang", "hap"], size=len(items))
        guessed = np.where(items.columns["acc"] == 1, true, "sad")
        speakers = [f"{fold}-{who}" for who in items.speaker]
        parts[fold] = Items(items.keys, speakers, {"predicted": guessed, "true": true})
    return join_folds(parts)


@pytest.mark.parametrize("make", [answers, transcripts, folded])
def test_shares_add_up_to_the_difference(make):
    rng = np.random.default_rng(1)
    a = make(rng)
    if "predicted" in a.columns:
        flipped = np.where(rng.random(len(a)) < 0.2, "sad", a.columns["predicted"])
        b = Items(a.keys, a.speaker, {**a.columns, "predicted": flipped}, None, a.fold)
    else:
        b = other_method(a, rng, better=0.1)
    kind = find(a)
    found = kind.shares(a, b)
    assert found.sum() == pytest.approx(estimate(b) - estimate(a))
    # exchanging the results of one speaker turns the sign of its share
    column = next(name for name in ("acc", "wer_errors", "predicted") if name in a.columns)
    own = a.places[0] == 3
    swapped = [
        Items(
            x.keys, x.speaker, {**x.columns, column: np.where(own, y.columns[column], x.columns[column])}, None, x.fold
        )
        for x, y in ((a, b), (b, a))
    ]
    assert estimate(swapped[1]) - estimate(swapped[0]) == pytest.approx(found.sum() - 2 * found[3])


def test_parts_of_an_equal_error_rate_sum_to_nearly_the_rate():
    rng = np.random.default_rng(2)
    a = trials(rng, 20)
    b = other_method(a, rng)
    found = find(a).shares(a, b)
    assert found.shape == (20,) and found.sum() == pytest.approx(estimate(b) - estimate(a), abs=0.1)


def test_parts_vary_as_the_rate_does_between_test_sets():
    """The standard error from the parts is that of the draws, and of really new speakers."""
    rates, errors, drawn = [], [], []
    for run in range(150):
        items = trials(np.random.default_rng([3, run]), 20)
        parts = shares(items.columns["score"], items.columns["same"], *items.places, 20)
        rates.append(estimate(items))
        errors.append(20**0.5 * parts.std(ddof=1))
        drawn.append(interval(items, draws=100).se if run < 20 else np.nan)
    assert np.mean(errors) == pytest.approx(np.std(rates, ddof=1), rel=0.2)
    assert np.nanmean(drawn) == pytest.approx(np.std(rates, ddof=1), rel=0.25)


@pytest.mark.parametrize("make", [answers, transcripts, trials])
def test_the_other_way_round(make):
    rng = np.random.default_rng(3)
    a = make(rng)
    b = other_method(a, rng, better=0.1)
    there, back = compare(a, b), compare(b, a)
    assert back.difference == -there.difference and back.p == there.p
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.se == pytest.approx(there.se)


def test_a_method_does_not_differ_from_itself():
    items = answers(np.random.default_rng(4))
    same = compare(items, items)
    assert (same.difference, same.se, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_the_order_of_items_does_not_matter():
    rng = np.random.default_rng(5)
    a = transcripts(rng)
    b = other_method(a, rng)
    mixed = b.take(rng.permutation(len(b)))
    assert compare(a, mixed) == compare(a, b)


def test_equal_keys_are_paired_in_their_order():
    """A drawn dev set can have an item twice."""
    a = Items(["x", "y", "x"], ["s", "t", "s"], {"acc": [1, 0, 0]})
    b = Items(["y", "x", "x"], ["t", "s", "s"], {"acc": [1, 1, 1]})
    assert compare(a, b).difference == pytest.approx(100 * 2 / 3)


# how often ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [answers, lambda rng: trials(rng, 12)], ids=["accuracy", "equal error rate"])
def test_equally_good_methods_seldom_differ(make):
    """At 5 %, about 5 % of pairs of equally good methods differ, and about 95 % of intervals contain zero."""
    found = []
    for run in range(200):
        rng = np.random.default_rng([6, run])
        items = make(rng)
        pair = [other_method(items, rng) for _ in range(2)]
        found.append(compare(*pair, draws=200))
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.08
    assert 0.92 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.99
    assert 0.4 <= np.mean([one.p for one in found]) <= 0.6


def test_a_better_method_is_found():
    rng = np.random.default_rng(7)
    a = answers(rng)
    better = compare(a, other_method(a, rng, better=0.3))
    assert better.low > 0 and better.p < 0.01 and better.higher_is_better


# several comparisons, margins, seeds ---------------------------------------------------------------------------------


def test_a_table_of_comparisons():
    rng = np.random.default_rng(8)
    a = answers(rng)
    others = {name: other_method(a, rng, better=better) for name, better in (("x", 0.0), ("y", 0.1), ("z", 0.3))}
    found = compare_all(a, others, draws=200)
    assert [one.p_holm for one in found.values()] == holm([compare(a, b, draws=200).p for b in others.values()])
    assert "Holm p" in str(found["z"]) and found["z"].to_dict()["p_holm"] == found["z"].p_holm


def test_margins():
    rng = np.random.default_rng(9)
    for make in (answers, transcripts):
        a = make(rng)
        found = compare(a, other_method(a, rng))
        worst = -found.low if found.higher_is_better else found.high
        assert found.non_inferior(worst + 0.01) and not found.non_inferior(worst - 0.01)
    with pytest.raises(ElpError, match="margin must be a number above 0 in percentage points, but is 0"):
        found.non_inferior(0)
    single = answers(rng, 1)
    assert not compare(single, single).non_inferior(100.0), "nothing is known from one speaker"


def test_seeds_are_compared_pair_by_pair():
    rng = np.random.default_rng(10)
    first = answers(rng)
    a = [other_method(first, rng) for _ in range(3)]
    b = [other_method(first, rng, better=0.2) for _ in range(3)]
    found = compare(a, b)
    pairs = [compare(*pair) for pair in zip(a, b, strict=True)]
    assert found.difference == pytest.approx(np.mean([pair.difference for pair in pairs])) and found.seeds == 3
    with pytest.raises(ElpError, match="must have the same training seeds, but one has 3 and the other 2"):
        compare(a, b[:2])


# wrong pairs ---------------------------------------------------------------------------------------------------------


def changed(items, **changes):
    fields = {"keys": items.keys, "speaker": items.speaker, "columns": items.columns, "second": items.second}
    return Items(**{**fields, **changes})


def test_other_test_sets_are_refused():
    a = transcripts(np.random.default_rng(11), 5)
    keys, speakers = list(a.keys), list(a.speaker)
    wrong = {
        "the same .* items .* 2 differ": {"keys": ["other", *keys[1:]]},
        "the same speakers": {"speaker": ["other", *speakers[1:]]},
        "the same column 'wer_total'": {"columns": {**a.columns, "wer_total": a.columns["wer_total"] + 1}},
    }
    for sentence, changes in wrong.items():
        with pytest.raises(ElpError, match=f"^the other method's results must have {sentence}"):
            compare(a, changed(a, **changes))
    with pytest.raises(ElpError, match="another seed must have the same"):
        interval([a, changed(a, keys=["other", *keys[1:]])])
    with pytest.raises(ElpError, match="measure must be one of"):
        compare(a, changed(a, columns={"acc": np.ones(len(a)), "wer_total": a.columns["wer_total"]}))
    with pytest.raises(ElpError, match="p must be from 0 to 1"):
        holm([0.5, 1.5])


def test_unknown_speakers_are_compared_item_by_item():
    a = changed(answers(np.random.default_rng(12)), speaker=[""] * len(answers(np.random.default_rng(12))))
    found = compare(a, other_method(a, np.random.default_rng(13)))
    assert found.clusters == len(a) and names([1]) == ["speaker-001"]
