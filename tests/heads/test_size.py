"""``datarc.train_minutes``: the same nested part of the training set for the check and the run, on every machine."""

import shutil

import pytest

from downstream_heads import registry
from downstream_heads.common.size import limited
from tests.task_tools import SMALL_DATA, SMALL_HEAD, TASKS, make_expert, packaged_config
from upstream_elp.audio.headers import Options, index_path, read_headers
from upstream_elp.base.errors import ElpError
from upstream_elp.launch import data as launch_data

KEY = "train_minutes"


@pytest.fixture(autouse=True)
def corpora(data, cache, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(data))


def datarc_of(task, minutes):
    return {**SMALL_DATA.get(task, {}), **({} if minutes is None else {KEY: minutes})}


def surveyed(task, minutes=None):
    """The root, and the files of each split."""
    config = packaged_config(task)
    config["downstream_expert"]["datarc"] |= datarc_of(task, minutes)
    found = launch_data.examine(task, config, options=Options()).survey
    assert not found.blocking()
    return found.root, {part.name: part for part in found.parts}


def seconds(root, files):
    headers = read_headers(root, files, cache=index_path(root), options=Options())
    return [headers[file].seconds for file in files]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_part_is_nested_as_long_as_asked_for_and_the_same_in_check_and_run(task, tmp_path):
    root, whole = surveyed(task)
    noise = {file for file in whole["train"].files if "_background_noise_" in file}  # KS always has all of it
    files = [file for file in whole["train"].files if file not in noise]
    total = sum(seconds(root, files)) / 60
    inner: set[str] = set()
    for share in (0.4, 0.7, 1.0):
        minutes = share * total * (1 + 1e-12)
        _, parts = surveyed(task, minutes)
        kept = {*parts["train"].files} - noise
        left = 60 * minutes - sum(seconds(root, sorted(kept)))
        assert inner <= kept <= {*files} and left + 1e-6 >= 0 and (share < 1 or kept == {*files})
        assert left <= max(seconds(root, files)), "the next one would be too much"
        assert {**parts, "train": None} == {**whole, "train": None}, "other splits are whole"
        expert = make_expert(task, tmp_path, datarc=datarc_of(task, minutes), modelrc=SMALL_HEAD.get(task))
        assert {str(file.relative_to(root)) for file in expert.dataset("train").files()} == kept | noise
        tables = make_expert(task, tmp_path, datarc=datarc_of(task, None), modelrc=SMALL_HEAD.get(task)).label_tables()
        assert expert.label_tables() == tables, "the classes are those of the whole training set"
        inner = kept
    with pytest.raises(ElpError, match=rf"{KEY} must be at most the .* minutes of the training set, but is"):
        surveyed(task, 1.01 * total)
    with pytest.raises(ElpError, match=f"{KEY} must leave an utterance for training"):
        surveyed(task, 1e-9)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("value", [0, -1, True, "10", [10]])
def test_a_wrong_value_is_one_sentence(task, value):
    with pytest.raises(ElpError, match=rf"downstream_expert.datarc.{KEY} must be a number above 0, but is"):
        surveyed(task, value)


class Row:
    def __init__(self, path):
        self.path = path


def test_it_does_not_depend_on_the_place_or_on_the_order(data, tmp_path):
    root = data / "fluent_speech_commands_dataset"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.wav"))
    copied = shutil.copytree(root, tmp_path / "copy")
    minutes = sum(seconds(root, files)) / 60 / 2
    here = limited(root, [Row(file) for file in files], {KEY: minutes})
    there = limited(copied, [Row(file) for file in reversed(files)], {KEY: minutes})
    assert [row.path for row in here] == [row.path for row in reversed(there)]
    assert [row.path for row in here] != files[: len(here)], "not simply the first ones"


def test_own_data_are_cut_in_the_same_way(data, tmp_path, monkeypatch):
    root = data / "fluent_speech_commands_dataset"
    lines = ["path,split,speaker,action"]
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        split = ("train", "train", "dev", "test")[number % 4]
        lines.append(f"{path.relative_to(root)},{split},{split}{number % 3},{'ab'[number // 4 % 2]}")
    manifest = root / "own.csv"
    manifest.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("ELP_DATA", str(manifest))
    try:
        for task, more in (
            ("elp_ic", {"labels": ["action"]}),
            ("elp_er", {"label": "action"}),
            ("elp_sv", {"min_samples": 100}),
        ):
            config = packaged_config(task)
            config["downstream_expert"]["datarc"] |= more
            whole = launch_data.examine(task, config, options=Options(), splits=["train"]).survey.parts[0].files
            minutes = sum(seconds(root, whole)) / 60 / 2
            config["downstream_expert"]["datarc"][KEY] = minutes
            part = launch_data.examine(task, config, options=Options(), splits=["train"]).survey.parts[0].files
            assert 0 < len(part) < len(whole) and {*part} < {*whole}
            if task != "elp_sv":
                expert = make_expert(task, tmp_path, datarc={**more, KEY: minutes})
                assert {str(file.relative_to(root)) for file in expert.dataset("train").files()} == {*part}
    finally:
        manifest.unlink()


def test_every_task_has_the_key_in_its_configuration():
    assert all(packaged_config(task)["downstream_expert"]["datarc"][KEY] is None for task in registry.names())
