"""Outcomes of a sweep's runs: values, errors, seeds, folds, and comparisons."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sweep_folders import SPEAKERS, TRAINED, answers, finish, job_of, toy_sweep, trials, write_manifest
from upstream_elp.statistics import compare, compare_all, interval, over_seeds
from upstream_elp.summary.comparisons import compared, pareto
from upstream_elp.summary.outcomes import BEST, TIED, outcomes
from upstream_elp.summary.runs import read_sweep


def cells_of(folder):
    sweep = read_sweep(folder)
    return compared(outcomes(sweep), sweep.compare)


def by_name(cells, task):
    return {each.name: each for each in cells if each.first.task == task}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return cells_of(toy_sweep(tmp_path_factory.mktemp("sweep")))


def test_each_cell_has_the_value_and_the_error_of_its_seeds(cells):
    assert [each.first.task for each in cells] == ["elp_ic"] * 3 + ["elp_sv"] * 3
    for each in cells:
        assert list(each.items) == [0, 1]
        assert each.value == interval(list(each.items.values()), each.task.main_metric)
        assert each.value.seeds == 2 and each.value.clusters == SPEAKERS and each.value.se > 0
        assert (each.trained, each.head, each.chance, each.seconds) == (TRAINED[each.name], 25, 25.0, 10.5)
        assert sum(one["weight"] for one in each.layer_weights) == pytest.approx(1.0, abs=0.03)


def test_the_spread_over_seeds_is_separate_from_the_error_over_speakers(cells):
    for each in cells:
        seeds = over_seeds(list(each.of_seeds.values()))
        assert each.value.value == pytest.approx(seeds.mean) and each.value.seed_sd == pytest.approx(seeds.sd)
        assert each.value.cluster_se**2 + seeds.se**2 == pytest.approx(each.value.se**2)
        # the same runs as if they were one method without a spread over seeds
        same = interval([each.items[0], each.items[0]], each.task.main_metric)
        assert same.cluster_se == same.se == interval(each.items[0], each.task.main_metric).cluster_se


def test_the_best_and_what_does_not_differ_from_it(cells):
    ic, sv = by_name(cells, "elp_ic"), by_name(cells, "elp_sv")
    assert {name: each.mark for name, each in ic.items()} == {
        "weighted_sum": "",
        "lora_qv8": TIED,
        "full_finetune": BEST,
    }
    assert ic["full_finetune"].best is None and ic["weighted_sum"].best.difference < -30
    assert sv["full_finetune"].mark == BEST and sv["weighted_sum"].mark == "", "a lower EER is better"


def test_comparisons_are_those_of_the_statistics(cells):
    for task in ("elp_ic", "elp_sv"):
        named = by_name(cells, task)
        metric = named["le" if "le" in named else "lora_qv8"].task.main_metric
        for reference, attribute in (("full_finetune", "best"), ("weighted_sum", "baseline")):
            others = {name: list(each.items.values()) for name, each in named.items() if name != reference}
            expected = compare_all(list(named[reference].items.values()), others, metric)
            assert {name: getattr(named[name], attribute) for name in others} == expected
    lora = by_name(cells, "elp_ic")["lora_qv8"]
    assert lora.margin == 1.5 and lora.non_inferior is True and lora.baseline.non_inferior(1.5)
    assert by_name(cells, "elp_ic")["weighted_sum"].non_inferior is None, "the baseline itself"


def test_cells_are_compared_on_the_seeds_that_both_have(tmp_path):
    rng = np.random.default_rng(1)
    jobs = [
        finish(job_of(tmp_path, "elp_ic", method, seed), answers(rng, accuracy=accuracy))
        for method, accuracy, seeds in (("weighted_sum", 0.5, (0, 1, 2)), ("le", 0.8, (2, 1)), ("lora_qv8", 0.7, (7,)))
        for seed in seeds
    ]
    named = by_name(cells_of(write_manifest(tmp_path, jobs)), "elp_ic")
    two = [[named[name].items[seed] for seed in (1, 2)] for name in ("weighted_sum", "le")]
    plain = dataclasses.replace(named["le"].baseline, p_holm=None)
    assert plain == compare(*two, "acc") and plain.seeds == 2
    assert named["lora_qv8"].best is None and named["lora_qv8"].mark == ""
    assert named["lora_qv8"].uncompared == "no seed in common with le"


def test_other_test_sets_are_not_compared_but_reported(tmp_path):
    rng = np.random.default_rng(1)
    jobs = [
        finish(job_of(tmp_path, "elp_ic", "weighted_sum", 0), answers(rng, accuracy=0.5)),
        finish(job_of(tmp_path, "elp_ic", "le", 0), answers(rng, accuracy=0.8, speakers=5)),
    ]
    named = by_name(cells_of(write_manifest(tmp_path, jobs)), "elp_ic")
    assert "must have the same" in named["weighted_sum"].uncompared and named["weighted_sum"].best is None


def test_a_baseline_with_several_settings_is_the_one_with_the_same_setting(tmp_path):
    rng = np.random.default_rng(1)
    jobs = [
        finish(job_of(tmp_path, "elp_ic", method, 0, varied={"optimizer.lr": rate}), answers(rng, accuracy=accuracy))
        for rate in (0.1, 0.2)
        for method, accuracy in (("weighted_sum", 0.3 + rate), ("le", 0.8))
    ]
    jobs.append(finish(job_of(tmp_path, "elp_ic", "lora_qv8", 0), answers(rng, accuracy=0.5)))
    named = by_name(cells_of(write_manifest(tmp_path, jobs)), "elp_ic")
    for rate in ("0.1", "0.2"):
        assert named[f"le lr={rate}"].baseline.a == pytest.approx(named[f"weighted_sum lr={rate}"].value.value)
    assert named["lora_qv8"].baseline is None, "none of them is its own"


def test_folds_are_joined_within_each_seed_and_incomplete_seeds_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    parts = [answers(rng, accuracy=0.2), answers(rng, accuracy=0.8)]
    jobs = [
        finish(job_of(tmp_path, "elp_er", "lora_qv8", seed, fold=fold), items)
        for seed, folds in ((0, ("fold1", "fold2")), (1, ("fold1",)))
        for fold, items in zip(folds, parts, strict=False)
    ]
    jobs.append(job_of(tmp_path, "elp_er", "lora_qv8", 1, fold="fold2"))
    (only,) = cells_of(write_manifest(tmp_path, jobs))
    means = [100 * part.columns["acc"].mean() for part in parts]
    assert only.value.value == pytest.approx(np.mean(means)) and only.value.seeds == 1 and only.seeds_planned == 2
    assert only.folds == {"fold1": [pytest.approx(means[0])], "fold2": [pytest.approx(means[1])]}


def test_folds_with_other_chosen_settings_are_one_cell(tmp_path):
    rng = np.random.default_rng(0)
    jobs = [
        finish(
            job_of(tmp_path, "elp_er", "le", 0, fold=fold, searched={"optimizer.lr": rate}), answers(rng, accuracy=0.5)
        )
        for fold, rate in (("fold1", 0.1), ("fold2", 0.2))
    ]
    (only,) = cells_of(write_manifest(tmp_path, jobs))
    assert only.chosen == "fold1: lr=0.1; fold2: lr=0.2" and len(only.folds) == 2


def test_a_value_that_is_not_finite_is_neither_best_nor_tied(tmp_path):
    rng = np.random.default_rng(0)
    broken = trials(rng, separation=1.0)
    broken.columns["score"][:] = math.nan
    jobs = [
        finish(job_of(tmp_path, "elp_sv", "weighted_sum", 0), trials(rng, separation=1.0)),
        finish(job_of(tmp_path, "elp_sv", "le", 0), broken),
    ]
    named = by_name(cells_of(write_manifest(tmp_path, jobs)), "elp_sv")
    assert (named["weighted_sum"].mark, named["le"].mark, named["le"].pareto) == (BEST, "", False)


POINTS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.sampled_from([1.0, 2.0, 3.0, math.nan])), max_size=8
)


@given(POINTS, st.booleans())
def test_the_front_has_exactly_what_nothing_beats(points, upwards):
    front = pareto(points, upwards=upwards)
    usable = {number for number, (size, value) in enumerate(points) if size is not None and value == value}
    sign = -1 if upwards else 1

    def beats(one, other):
        (s, v), (size, value) = points[one], points[other]
        return s <= size and sign * v <= sign * value and (s < size or v != value)

    assert front == {number for number in usable if not any(beats(other, number) for other in usable)}
    assert bool(front) == bool(usable)
