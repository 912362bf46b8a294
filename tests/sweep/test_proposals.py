"""Searches whose settings are proposed: ranges, equally many trials, and proposals that only results change."""

import json
import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from tests import sweep_plans
from tests.programs import call, ended, launch
from tests.sweep.test_runs import command, runs, wait
from tests.sweep_folders import finish
from upstream_elp.base.errors import DivergedError, ElpError
from upstream_elp.launch import start
from upstream_elp.summary.report import write
from upstream_elp.sweep import job as one_job
from upstream_elp.sweep import jobs as files
from upstream_elp.sweep import ranges, show
from upstream_elp.sweep.jobs import DONE, FAILED, NEW, state_of
from upstream_elp.sweep.plan import parse_plan
from upstream_elp.sweep.proposals import FILE, propose
from upstream_elp.sweep.ranges import Range
from upstream_elp.sweep.run import record

RATE = "optimizer.groups.e_adapter"
LR = {"low": 1e-4, "high": 1e-1, "log": True}
METHODS = {
    "le": {RATE: LR, "adapter.l_adapter.dim": [8, "1/2", 16]},
    "weighted_sum": {"optimizer.groups.featurizer": LR},
}
SEARCH = {"engine": "optuna", "seeds": [100, 101], "trials": 7, "batch": 3, "methods": METHODS}


def parsed(search, **changes):
    return parse_plan(sweep_plans.content("data", search=search, **changes), where="plan", name="toy").search


# ranges ------------------------------------------------------------------------------------------------------------


@st.composite
def some_range(draw):
    log = draw(st.booleans())
    if draw(st.booleans()):
        low = draw(st.integers(1 if log else -100, 100))
        return Range(low, low + draw(st.integers(1, 1000)), log)
    low = draw(st.floats(1e-8 if log else -1e3, 1e3))
    return Range(low, low + draw(st.floats(1e-6, 1e4)), log)


@given(some_range(), st.floats(0, 1), st.integers(0, 2**32))
def test_a_number_of_a_range_is_within_it_and_has_few_digits(each, share, seed):
    exact = each.low + share * (each.high - each.low)
    near = each.near(exact)
    assert each.low <= near <= each.high and each.low <= each.drawn(random.Random(seed)) <= each.high
    if each.whole:
        assert isinstance(near, int)
    elif near not in (each.low, each.high):
        assert abs(near - exact) <= (each.high - each.low) / 1000
        wide = math.log10(max(abs(near), 1) / (each.high - each.low))
        assert len(f"{near:.15g}".partition("e")[0].strip("-").replace(".", "").strip("0")) <= 5 + max(0, wide)


def test_a_range_has_the_digits_that_a_table_shows():
    assert Range(1e-4, 1e-2, log=True).near(0.000123456) == 0.000123
    assert Range(0.0, 0.5).near(0.123456) == 0.1235
    assert Range(1, 64).near(7.6) == 8


def test_corners_have_every_listed_value_and_both_limits():
    space = {"a": Range(1, 8), "b": ("x", "y", "z")}
    assert ranges.corners(space) == [{"a": 1, "b": "x"}, {"a": 8, "b": "y"}, {"a": 8, "b": "z"}]
    assert ranges.count(space) == 24 and ranges.count({"a": Range(0.0, 1.0)}) == math.inf


# plans -------------------------------------------------------------------------------------------------------------


def test_a_plan_names_ranges_per_method_and_as_many_trials_for_each():
    search = parsed(SEARCH)
    assert (search.engine, search.trials, search.batch, search.sampler_seed) == ("optuna", 7, 3, 0)
    assert search.spaces["le"] == {RATE: Range(1e-4, 1e-1, True), "adapter.l_adapter.dim": (8, "1/2", 16)}
    shared = parsed({"engine": "optuna", "seeds": [9], "trials": 4, "grid": {"optimizer.lr": LR}})
    assert shared.spaces["le"] == shared.spaces["weighted_sum"] == {"optimizer.lr": Range(1e-4, 1e-1, True)}


def changed(**search):
    return {key: value for key, value in {**SEARCH, **search}.items() if value is not None}


def with_range(**limits):
    return changed(methods={**METHODS, "weighted_sum": {"optimizer.lr": {**LR, **limits}}})


BAD = {
    "engine": (changed(engine="optun"), "search.engine must be grid or optuna, but is 'optun'; did you mean optuna"),
    "no trials": (changed(trials=None), "search.trials must be a whole number from 2 to 1000, but is None"),
    "one trial": (changed(trials=1), "search.trials must be a whole number from 2 to 1000, but is 1"),
    "too many trials": (changed(trials=1001), "from 2 to 1000, but is 1001"),
    "trials of true": (changed(trials=True), "search.trials must be a whole number .* but is True"),
    "batch": (changed(batch=0), "search.batch must be a whole number from 1 to 1000, but is 0"),
    "sampler seed": (changed(sampler_seed=-1), "search.sampler_seed must be a whole number from 0"),
    "nothing for a method": (changed(methods={"le": METHODS["le"]}), "nothing to try for weighted_sum; add its keys"),
    "too few settings": (
        changed(methods={**METHODS, "weighted_sum": {"optimizer.lr": [1, 2], "optimizer.groups.featurizer": [4, 6]}}),
        "trials must be at most the number of settings of each method, but is 7 and weighted_sum has only 4",
    ),
    "too few whole numbers": (with_range(low=1, high=6, log=False), "but is 7 and weighted_sum has only 6"),
    "limits": (with_range(low=1.0), r"optimizer.lr.low must be below high, but 1 is not below 0.1"),
    "log of 0": (with_range(low=0.0), r"optimizer.lr.low must be above 0 with log: true, but is 0"),
    "no limit": (with_range(high=None), r"optimizer.lr.high must be a number, but is None"),
    "limit of text": (with_range(low="1e-4x"), r"optimizer.lr.low must be a number, but is '1e-4x'"),
    "log of text": (with_range(log="yes"), r"optimizer.lr.log must be true or false, but is 'yes'"),
    "key of a range": (with_range(step=1), "optimizer.lr: unknown key 'step'"),
    "twice": (
        changed(grid={"optimizer.groups.featurizer, optimizer.lr": LR}),
        "optimizer.groups.featurizer of weighted_sum must be searched once, but is there twice",
    ),
    "a value twice": (changed(grid={"optimizer.lr": [1, 1]}), "must name each value once"),
    "a range in a grid": (changed(engine=None, trials=None, batch=None), "is a range, which needs engine: optuna"),
    "trials of a grid": (
        {"seeds": [9], "trials": 3, "grid": {"optimizer.lr": [1, 2]}},
        "search.trials must go with engine: optuna, but the engine is grid; remove one of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("search", "message"), BAD.values(), ids=BAD)
def test_a_wrong_search_is_one_sentence(search, message):
    with pytest.raises(ElpError, match=message) as error:
        parsed(search)
    assert "\n" not in str(error.value) and str(error.value).startswith("plan: search")


def test_what_may_be_proposed_is_checked_before_anything_runs(planner, tmp_path):
    for key, values, message in (
        ("adapter.e_adapter.layers", ["all", "top:1", "top:2", [7]], "selects layer 7"),
        ("adapter.e_adapter.dim", {"low": -2, "high": 8}, "dim"),
        ("optimizer.groups.l_adapterr", LR, "le has no l_adapterr"),
    ):
        with pytest.raises(ElpError, match=message):
            planner(methods=["le"], search=changed(trials=3, methods={"le": {key: values, RATE: LR}}))
    assert not (tmp_path / "out").exists()


def test_without_optuna_one_sentence_names_the_extra(planner, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ElpError, match=r'optuna is not installed; run pip install "s3prl-elp\[optuna\]"'):
        planner(search=SEARCH)


# proposals ---------------------------------------------------------------------------------------------------------

SPACE = {"rate": Range(1e-5, 1e-1, log=True), "dim": Range(1, 64), "layers": ("all", [0, 1], "top:1")}


def quality(setting):
    """Best at a rate of 1e-3."""
    return -((math.log10(setting["rate"]) + 3) ** 2)


@hypothesis(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), known=st.integers(0, 14), upwards=st.booleans())
def test_a_proposal_is_new_allowed_and_always_the_same(seed, known, upwards):
    draw = random.Random(seed)
    settings = [ranges.drawn(SPACE, draw) for _ in range(14)]
    values = [draw.choice([None, draw.random()]) for _ in range(known)]
    found = propose(SPACE, settings, values, seed=seed, upwards=upwards)
    assert found == propose(SPACE, settings, values, seed=seed, upwards=upwards)
    assert found not in settings and found["layers"] in SPACE["layers"]
    assert 1e-5 <= found["rate"] <= 1e-1 and found["dim"] in range(1, 65)


def test_every_setting_of_a_small_space_is_proposed_once():
    space = {"a": (1, 2, 3), "b": Range(0, 1)}
    settings = []
    for number in range(6):
        settings.append(propose(space, settings, [1.0] * number, seed=number, upwards=True))
    assert len({json.dumps(setting) for setting in settings}) == 6


@pytest.mark.parametrize("upwards", [True, False])
def test_later_proposals_are_near_the_best_ones(upwards):
    settings, sign = [], 1 if upwards else -1
    for number in range(40):
        values = [sign * quality(setting) for setting in settings]
        settings.append(propose(SPACE, settings, values, seed=number, upwards=upwards))
    first, last = ([quality(setting) for setting in part] for part in (settings[:10], settings[-10:]))
    assert sum(last) / 10 > 2 * sum(first) / 10, "these are negative: less than half the distance"


# sweeps ------------------------------------------------------------------------------------------------------------


def value_of(job):
    """What a made-up run reaches: it depends on its setting and seed only."""
    rate = next(value for key, value in job.searched.items() if "groups" in key)
    return 100.0 - 10 * abs(math.log10(rate) + 2.3) - job.seed % 2


def finish_some(work, draw):
    """End some of the runs that have not ended, in any order."""
    waiting = [job for job in work.search if state_of(job) != DONE]
    for job in draw.sample(waiting, draw.randint(1, len(waiting))):
        finish(job, dev=value_of(job))


def whole(planner, out, *, draw, search=SEARCH, killed=False):
    """Finish a search, with a new process for every look at it if it is killed all the time."""
    plan = planner(out, search=search, seeds=[0])
    for _ in range(200):
        work = plan.work()
        if not any(state_of(job) != DONE for job in work.search):
            return work
        if killed and draw.random() < 0.3:  # before the proposals are recorded
            plan = planner(out, search=search, seeds=[0])
            continue
        record(work)
        finish_some(work, draw)
        if killed and draw.random() < 0.5:
            plan = planner(out, search=search, seeds=[0])
    raise AssertionError("the search does not end")


def found(work):
    return [
        [(each.first.searched, [job.key for job in each.jobs], each.mean) for each in cell] for cell in work.searches
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_resumed_search_is_one_that_was_never_stopped(seed, planner, tmp_path):
    """Whatever the order in which runs end, and wherever the launcher is killed."""
    straight = whole(planner, tmp_path / "straight", draw=random.Random(99))
    assert [len(cell) for cell in straight.searches] == [7, 7], "as many for every method"
    for cell in straight.searches:
        assert len({json.dumps(each.first.searched) for each in cell}) == 7
    again = whole(planner, tmp_path / "again", draw=random.Random(seed), killed=True)
    assert found(again) == found(straight)
    assert {job.method: job.searched for job in again.final} == {job.method: job.searched for job in straight.final}
    best = {cell[0].first.method: max(cell, key=lambda each: each.mean) for cell in straight.searches}
    assert {job.method: job.searched for job in again.final} == {
        method: dict(each.first.searched) for method, each in best.items()
    }


def test_batches_wait_for_each_other_and_the_choice_for_all(planner):
    plan = planner(search=changed(methods={"le": METHODS["le"]}), methods=["le"], seeds=[0, 1])
    work = plan.work()
    assert [len(cell) for cell in work.searches] == [3] and len(work.search) == 6
    assert work.waiting == (7 - 3) * 2 + 2 and "10 more runs will follow" in show.plan(work)
    for job in work.search[:-1]:
        finish(job, dev=value_of(job))
    assert len(plan.work().search) == 6, "the last one of the batch has not ended"
    finish(work.search[-1], dev=value_of(work.search[-1]))
    work = plan.work()
    assert len(work.search) == 12 and not work.final
    record(work)
    known = json.loads((work.out / FILE).read_text())
    assert [len(settings) for settings in known.values()] == [6]
    rows = json.loads((work.out / "search.json").read_text())
    assert not any(row["chosen"] for row in rows), "nothing is chosen before the end"


def test_a_longer_search_continues_a_shorter_one(planner, tmp_path):
    draw = random.Random(5)
    whole(planner, tmp_path / "out", draw=draw, search=changed(trials=4))
    longer = whole(planner, tmp_path / "out", draw=draw)
    assert found(longer) == found(whole(planner, tmp_path / "straight", draw=draw))


def test_another_seed_proposes_other_settings_and_another_range_begins_anew(planner, tmp_path):
    first = {job.key for job in planner(search=SEARCH).work().search}
    assert first == {job.key for job in planner(tmp_path / "else", search=SEARCH).work().search}
    assert first.isdisjoint(job.key for job in planner(search=changed(sampler_seed=1)).work().search)
    narrow = {**METHODS, "le": {RATE: {**LR, "high": 1e-2}}}
    other = {job.key for job in planner(search=changed(methods=narrow)).work().search if job.method == "le"}
    assert first.isdisjoint(other)


def test_recorded_proposals_that_cannot_be_read_are_reported(planner, tmp_path):
    record(planner(search=SEARCH).work())
    (tmp_path / "out" / FILE).write_text("[1]")
    with pytest.raises(ElpError, match=r"proposals.json must have the proposals of the search, but cannot be read"):
        planner(search=SEARCH)


def test_a_failed_run_stops_the_proposals_of_its_cell_only(planner):
    plan = planner(search=SEARCH)
    work = plan.work()
    failed = next(job for job in work.search if job.method == "le")
    for job in work.search:
        if job != failed:
            finish(job, dev=value_of(job))
    failed.path.mkdir(parents=True)
    files.fail(failed, "no space left")
    work = plan.work()
    assert {cell[0].first.method: len(cell) for cell in work.searches} == {"le": 3, "weighted_sum": 6}
    assert state_of(failed) == FAILED and not work.final


# what diverges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["search", "final"])
def test_a_setting_that_diverges_is_a_result_of_a_search_and_a_failure_elsewhere(stage, planner, monkeypatch):
    """Also if the sentence was put into another exception on its way."""

    def run(argv):
        try:
            raise DivergedError("30 steps in a row were skipped")
        except ElpError as error:
            raise ElpError(str(error)) from error

    monkeypatch.setattr(start, "run", run)
    monkeypatch.setattr(start, "adopt_main", lambda: None)
    work = planner(**({"search": SEARCH} if stage == "search" else {})).work()
    job = work.jobs[0]
    job.path.mkdir(parents=True)
    job.write()
    if stage == "final":
        with pytest.raises(ElpError, match="30 steps in a row"):
            one_job.main(str(job.file))
        assert state_of(job) == FAILED
        return
    one_job.main(str(job.file))
    assert state_of(job) == DONE and files.dev_value(job) is None and "30 steps" in files.divergence(job)
    record(work)
    write(work.out)
    text = (work.out / "report" / "report.md").read_text()
    assert "30 steps in a row were skipped" in text and "diverged in a search" in text


@hypothesis(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), upwards=st.booleans())
def test_a_diverged_setting_counts_as_the_worst(seed, upwards):
    draw = random.Random(seed)
    settings = [ranges.drawn(SPACE, draw) for _ in range(16)]
    values = [draw.random() for _ in settings[:14]]
    worst, diverged = [-1.0 if upwards else 2.0, *values], [None, *values]
    proposed = (propose(SPACE, settings, each, seed=seed, upwards=upwards) for each in (worst, diverged))
    assert next(proposed) == next(proposed)


def test_a_search_goes_on_when_a_setting_has_diverged(planner):
    plan = planner(search=changed(methods={"le": METHODS["le"]}), methods=["le"])
    for job in plan.work().search:
        diverges = job.searched[RATE] == max(each.searched[RATE] for each in plan.work().search)
        if diverges:
            job.path.mkdir(parents=True)
            files.end(job, train_seconds=1, test_seconds=0, diverged="not finite")
        else:
            finish(job, dev=value_of(job))
    work = plan.work()
    (cell,) = work.searches
    assert len(cell) == 6 and [each.mean for each in cell[:3]].count(None) == 1
    assert {state_of(job) for each in cell[3:] for job in each.jobs} == {NEW}


# the report --------------------------------------------------------------------------------------------------------


def test_the_report_has_every_trial(planner, tmp_path):
    search = changed(trials=14, batch=7, seeds=[100])
    work = whole(planner, tmp_path / "out", draw=random.Random(0), search=search)
    for job in work.final:
        job.path.mkdir(parents=True)
    record(work)
    write(work.out)
    content = json.loads((work.out / "report" / "report.json").read_text())
    assert len(content["search"]) == 28 and sum(row["chosen"] for row in content["search"]) == 2
    text = (work.out / "report" / "report.md").read_text()
    assert "28 settings in 2 searches" in text
    settings = [each.setting for cell in work.searches for each in cell]
    assert (
        all(setting in text for setting in settings)
        and "in the order of the search" in (work.out / "report" / "pictures" / "search.svg").read_text()
    )


# real runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_killed_on_the_way_gives_what_one_never_stopped_gives(data, tmp_path):
    """With another number of runs at a time, too."""
    search = {"engine": "optuna", "seeds": [100], "trials": 4, "batch": 2, "grid": {"optimizer.lr": LR}}
    plan = sweep_plans.write(tmp_path, data, seeds=[0], search=search)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert call([*command(plan, whole), "--jobs", "1"], seconds=900).returncode == 0
    for count in (1, 3, 6):
        process = launch(command(plan, out))
        wait(lambda count=count: len(list(out.glob("search/*/*/done.json"))) >= count, process)
        process.kill()
        ended(process)
    outcome = call(command(plan, out), seconds=900)
    assert outcome.returncode == 0, outcome.stderr
    assert (out / "search.csv").read_text() == (whole / "search.csv").read_text()
    assert (out / FILE).read_text() == (whole / FILE).read_text()
    here, there = ({run["key"]: (run["metrics"], run["dev"]) for run in runs(place)} for place in (out, whole))
    assert here == there and len(here) == 2 * 4 + 2
