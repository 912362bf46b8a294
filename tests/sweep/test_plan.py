"""Plan files: their product, and one sentence for each that cannot be carried out, before anything runs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import sweep_plans
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.sweep import sweep
from upstream_elp.sweep.blocks import AXES, BLOCK
from upstream_elp.sweep.changes import CHANGED
from upstream_elp.sweep.compare import KEYS as COMPARE
from upstream_elp.sweep.compare import Compare
from upstream_elp.sweep.plan import KEYS, parse_plan, read_plan
from upstream_elp.sweep.points import cells, settings_of
from upstream_elp.sweep.searching import SEARCH

RATE = "optimizer.groups.e_adapter"


def parsed(**changes):
    return parse_plan(sweep_plans.content("data", **changes), where="plan", name="toy")


def titles(plan):
    return [(cell.title, cell.seeds, {**cell.varied}) for cell in cells(plan)]


def test_a_plan_is_the_product_of_its_lists():
    plan = parsed(tasks=["ic", "er"], seeds=[0, 1], folds=["fold1", "fold2"], grid={"optimizer.lr": [1e-3, 1e-4]})
    found = cells(plan)
    assert len(found) == 2 * 2 * (1 + 2)  # rates x methods x (IC, and ER's two folds)
    assert {cell.seeds for cell in found} == {(0, 1)}
    assert {cell.fold for cell in found if cell.task == "elp_ic"} == {None}
    assert {cell.varied["optimizer.lr"] for cell in found} == {1e-3, 1e-4}
    assert len(cells(parsed(tasks=["er"], folds="all"))) == 2 * 5


def test_include_adds_products_and_exclude_removes_runs():
    plan = parsed(
        include=[{"methods": ["le"], "grid": {RATE: [1e-4, 5e-4]}}, {"methods": ["elp"], "seeds": [7]}],
        exclude=[{"methods": "le", RATE: 5e-4}, {"methods": ["weighted_sum"]}],
    )
    assert [(cell.method.name, cell.seeds, cell.varied) for cell in cells(plan)] == [
        ("le", (0,), {}),
        ("le", (0,), {RATE: 1e-4}),
        ("elp", (7,), {}),
    ]
    single = cells(parsed(seeds=[0, 1, 2], exclude=[{"methods": "le", "seeds": [1]}]))
    assert [cell.seeds for cell in single] == [(0, 1, 2), (0, 2)]


def test_an_upstream_of_s3prl_needs_no_backbone():
    plan = parsed(
        methods=["le", {"upstream": "fbank_no_cmvn", "name": "none"}], backbones=["wavlm_base", "hubert_base"]
    )
    assert [(cell.method.name, cell.backbone and cell.backbone.name) for cell in cells(plan)] == [
        ("le", "wavlm_base"),
        ("le", "hubert_base"),
        ("none", None),
    ]
    assert cells(parsed(methods=[{"upstream": "fbank"}], backbones=None))[0].backbone is None


def test_a_plan_states_what_differs_from_its_base(tmp_path):
    sweep_plans.write(tmp_path, "data", name="first", description="all of it")
    (tmp_path / "other.yaml").write_text("base: plan.yaml\ndata: elsewhere\nset: {optimizer.lr: 0.5}\n")
    plan = read_plan(tmp_path / "other.yaml")
    assert (plan.name, plan.description, plan.data) == ("other", "", "elsewhere")
    assert plan.blocks[0].changes == {**sweep_plans.SHORT, "optimizer.lr": 0.5}
    (tmp_path / "mine.yaml").write_text("base: methods\nbackbones: [wavlm_base]\ntasks: [ic]\n")
    assert "elp" in {method.name for method in read_plan(tmp_path / "mine.yaml").blocks[0].methods}
    (tmp_path / "plan.yaml").write_text("base: other.yaml\n")
    with pytest.raises(ElpError, match="base must not lead in a circle"):
        read_plan(tmp_path / "other.yaml")


def test_a_search_tries_equally_many_settings_of_every_method():
    grid = {"methods": {"le": {RATE: [1, 2]}, "weighted_sum": {"optimizer.groups.featurizer": [3, 4]}}}
    plan = parsed(search={"seeds": [100], **grid})
    tried = {cell.method.name: settings_of(plan.search, cell) for cell in cells(plan)}
    assert tried["le"] == [{RATE: 1}, {RATE: 2}]
    assert tried["weighted_sum"] == [{"optimizer.groups.featurizer": 3}, {"optimizer.groups.featurizer": 4}]
    grid["methods"]["le"][RATE].append(3)
    with pytest.raises(
        ElpError, match=r"equally many settings of every method, but tries 2 for weighted_sum, 3 for le"
    ):
        parsed(search={"seeds": [100], **grid})


def test_a_margin_is_for_all_tasks_or_for_each():
    assert parsed().compare == Compare() and Compare().margin("elp_ic") is None
    for margin, expected in ((1.5, {None: 1.5}), ({"ic": 2}, {"elp_ic": 2.0}), (None, {})):
        found = parsed(compare={"baseline": "le", "margin": margin}).compare
        assert found == Compare("le", expected) and Compare.from_dict(found.to_dict()) == found
        assert found.margin("elp_ic") == next(iter(expected.values()), None)
        assert found.margin("elp_er") == expected.get(None)
    assert Compare.from_dict(None) == Compare()


BAD = {
    "unknown key": ({"task": ["ic"]}, "plan: unknown key 'task'; did you mean tasks"),
    "no methods": ({"methods": None}, "plan must name tasks, methods and seeds, but names no methods"),
    "empty seeds": ({"seeds": []}, r"plan: seeds must list seeds, but is \[\]; that is only of use with a search"),
    "no seeds": ({"seeds": None}, "names no seeds"),
    "empty list": ({"tasks": []}, r"tasks must be a list that is not empty, such as \[a, b\], but is \[\]"),
    "not a list": ({"methods": "le"}, "methods must be a list"),
    "unknown task": (
        {"tasks": ["icc"]},
        "tasks: a task must be one of asr, er, ic, ks, sv, .*emotion, .*but is 'icc'; did you mean ic",
    ),
    "unknown preset": ({"methods": ["lee"]}, "no adapter preset or file 'lee'.*{upstream: NAME}"),
    "unnamed adapter": ({"methods": [{"base": "le"}]}, "must have a name"),
    "bad adapter": ({"methods": [{"base": "le", "name": "x", "e_adaptr": {}}]}, "unknown key 'e_adaptr'"),
    "two of a name": ({"methods": ["le", {"base": "elp", "name": "le"}]}, "different names, but le is there twice"),
    "our upstream": ({"methods": [{"upstream": "elp_wavlm_base"}]}, "upstream must be one of S3PRL's own"),
    "no backbones": ({"backbones": None}, "backbones must name the frozen model of weighted_sum"),
    "missing backbone": (
        {"backbones": ["nowhere.pt"]},
        "nowhere.pt must be a file, a folder or the name of a backbone",
    ),
    "twice a seed": ({"seeds": [1, 1]}, "must name each value once, but 1 is there twice"),
    "seed of text": ({"seeds": ["a"]}, "must be whole numbers from 0 to 4294967295, but one is 'a'"),
    "folds without": ({"folds": ["fold1"]}, r"folds must belong to a task that has them \(er\), but none does"),
    "unknown fold": ({"tasks": ["er"], "folds": ["fold9"]}, "folds of elp_er must be among fold1, .*one is 'fold9'"),
    "not dotted": ({"set": {"lr": 1}}, "a key must be dotted and begin with adapter, runner, .*, but is 'lr'"),
    "unknown block": ({"grid": {"optimzer.lr": [1]}}, "did you mean optimizer"),
    "set and grid": ({"set": {RATE: 1}, "grid": {RATE: [1, 2]}}, "must be either in set or in grid"),
    "all excluded": ({"exclude": [{"tasks": "ic"}]}, "exclude removes every run"),
    "excludes nothing": ({"exclude": [{"methods": "elp"}]}, r"exclude\[0\] must fit at least one run, but no run has"),
    "search seeds": ({"search": {"seeds": [0], "grid": {"optimizer.lr": [1, 2]}}}, "fresh ones, but 0 is in both"),
    "search of one": ({"search": {"seeds": [9], "grid": {"optimizer.lr": [1]}}}, "at least two settings, but tries 1"),
    "search twice": (
        {"grid": {RATE: [1, 2]}, "search": {"seeds": [9], "grid": {RATE: [1, 2]}}},
        "must be either searched or set",
    ),
    "no baseline": ({"compare": {"margin": 1}}, "compare.baseline must be a method of the plan, but is None"),
    "other baseline": ({"compare": {"baseline": "lee"}}, "but is 'lee'; did you mean le"),
    "margin of 0": (
        {"compare": {"baseline": "le", "margin": 0}},
        "margin must be a number of percentage points above 0",
    ),
    "margin of text": ({"compare": {"baseline": "le", "margin": {"ic": "a"}}}, "margin.ic must be a number of .*'a'"),
    "margin of a task": ({"compare": {"baseline": "le", "margin": {"icc": 1}}}, "margin: a task must be one of"),
    "no process": ({"processes": 0}, "processes must be a whole number of at least 1, but is 0"),
    "processes of text": ({"processes": "2"}, "processes must be a whole number of at least 1, but is '2'"),
    "bad name": ({"name": "a/b"}, "name must begin with a letter or digit and have only"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_a_wrong_plan_is_one_sentence(changes, message):
    with pytest.raises(ElpError, match=message) as error:
        cells(parsed(**changes))
    assert "\n" not in str(error.value) and str(error.value).startswith("plan")


WRONG = st.one_of(st.integers(), st.booleans(), st.floats(), st.text(max_size=3), st.lists(st.none(), max_size=2))
SOMEWHERE = st.sampled_from(["", "include", "search", "exclude"])


@given(where=SOMEWHERE, key=st.text("abcdefghij_", min_size=1, max_size=12), value=WRONG)
@settings(max_examples=100, deadline=None)
def test_any_unknown_key_is_named_wherever_it_is(where, key, value):
    if key in {*KEYS, *AXES}:
        return
    changes = {
        "": {key: value},
        "include": {"include": [{"methods": ["elp"], key: value}]},
        "search": {"search": {"seeds": [9], "grid": {"optimizer.lr": [1, 2]}, key: value}},
        "exclude": {"exclude": [{key: value}]},
    }
    with pytest.raises(ElpError, match=re.escape(repr(key))):
        parsed(**changes[where])


@given(key=st.sampled_from([*BLOCK, "include", "exclude", "search", "compare"]), value=WRONG)
@settings(max_examples=200, deadline=None)
def test_any_wrong_value_names_its_key(key, value):
    if value is None or (key == "config" and isinstance(value, str) and value):
        return
    with pytest.raises(ElpError, match=f"plan: {key}"):
        parsed(**{key: value})


def test_the_keys_are_documented():
    from pathlib import Path

    page = Path(__file__).parents[2].joinpath("docs", "sweeps.md").read_text()
    assert not [key for key in (*KEYS, *SEARCH, *CHANGED, *COMPARE) if f"`{key}" not in page]
    assert not [
        option for each in sweep.params for option in each.opts if option.startswith("-") and option not in page
    ]
