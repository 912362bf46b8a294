"""What every task keeps of its items, and the intervals that an evaluation reports."""

import json

import pytest

from downstream_heads import registry
from downstream_heads.common.base import TaskExpert
from tests import toy_corpora
from tests.task_tools import SMALL_DATA, SMALL_HEAD, TASKS, make_expert, run_split
from upstream_elp.statistics import Interval, estimate, interval, load_items

#: the speakers of the toys' test sets
SPEAKERS = {
    "elp_asr": {"300"},
    "elp_er": {"Ses01F"},
    "elp_ic": {"testspk"},
    "elp_ks": {f"test{number}" for number in range(12)},
    "elp_sv": {"id10004", "id10005"},
}


@pytest.fixture(autouse=True)
def corpora(tmp_path, monkeypatch):
    toy_corpora.write_all(tmp_path / "data")
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


def evaluated(task, split, tmp_path, *, mode="evaluate"):
    """The line in ``metrics.jsonl`` of one evaluation."""
    expert = make_expert(
        task, tmp_path / "exp", datarc=SMALL_DATA.get(task, {}), modelrc=SMALL_HEAD.get(task, {}), mode=mode
    )
    run_split(expert.eval(), split, step=7)
    return json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_items_have_the_values_that_are_reported(task, split, tmp_path, capsys):
    line = evaluated(task, registry.find(task).split(split), tmp_path)
    items = load_items(tmp_path / "exp", line["split"])
    assert len(items) == line["items"]
    assert registry.find(task).main_metric == items.measures[0]
    shared = [name for name in items.measures if name in line["metrics"]]
    for name in shared:
        assert estimate(items, name) == pytest.approx(line["metrics"][name], rel=1e-12)
    assert line["intervals"] == {name: interval(items, name).to_dict() for name in shared}
    assert {"task": task, "split": line["split"], "step": 7, "seed": 1}.items() <= items.about.items()
    printed = capsys.readouterr()
    margin = Interval.from_dict(line["intervals"][items.measures[0]]).margin
    assert f"{margin}" in printed.out + printed.err
    if split == "test" and task in SPEAKERS:
        assert {*items.speaker, *(items.second or [])} == SPEAKERS[task]


@pytest.mark.parametrize("task", TASKS)
def test_training_keeps_the_items_of_dev_without_intervals(task, tmp_path):
    dev = registry.find(task).split("dev")
    assert "intervals" not in evaluated(task, dev, tmp_path, mode="train")
    evaluated(task, "train", tmp_path, mode="train")
    assert [path.name for path in (tmp_path / "exp").glob("items-*")] == [f"items-{dev}.csv"]


def test_noise_has_no_speaker(tmp_path):
    evaluated("elp_ks", "dev", tmp_path)
    items = load_items(tmp_path / "exp", "dev")
    silent = {who for who, label in zip(items.speaker, items.columns["true"], strict=True) if label == "_silence_"}
    assert silent <= {""} and {who for who in items.speaker if who}


def test_slots_have_their_own_accuracies(tmp_path):
    evaluated("elp_ic", "test", tmp_path)
    items = load_items(tmp_path / "exp", "test")
    assert items.measures == ("acc", "action_acc", "object_acc", "location_acc", "uacc")
    whole = items.columns["acc"]
    slots = [items.columns[f"{slot}_acc"] for slot in ("action", "object", "location")]
    assert (whole == slots[0] * slots[1] * slots[2]).all()
    assert all(text.count("|") == 2 for text in items.columns["true"])


def test_a_task_that_knows_no_speakers_takes_each_item_as_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.find("elp_ic").load("expert"), "item_speakers", TaskExpert.item_speakers)
    line = evaluated("elp_ic", "test", tmp_path)
    found = line["intervals"]["acc"]
    assert found["clusters"] == found["unknown"] == line["items"]
    assert "items without a speaker" in Interval.from_dict(found).margin
