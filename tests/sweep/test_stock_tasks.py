"""S3PRL's own tasks in a sweep: what a plan says, what identifies their data, and runs up to the report."""

import json
import os
import sys

import pytest
import yaml

from downstream_heads.stock import REFUSED, STOCK
from tests import host_toys, sweep_plans
from tests.programs import call
from upstream_elp.base.errors import ElpError
from upstream_elp.host import places
from upstream_elp.launch import arguments
from upstream_elp.launch.registry import register
from upstream_elp.statistics import load_items
from upstream_elp.sweep.plan import parse_plan
from upstream_elp.sweep.points import cells
from upstream_elp.sweep.resolve import Resolver

SHORT = {"runner.total_steps": 2, "runner.eval_step": 1, "runner.save_step": 1, "runner.log_step": 1}


def content(root, tasks, **changes):
    """A plan of S3PRL's own tasks on their toy corpora below a folder."""
    configs = {}
    for task in tasks:
        (root / task).mkdir(parents=True, exist_ok=True)
        configs[task] = str(host_toys.stock_config(task, root / task))
    given = {"tasks": list(tasks), "methods": ["le"], "config": configs, "set": SHORT, **changes}
    return without_data(**given)


def without_data(**given):
    """A plan that does not name a folder of corpora, as S3PRL's configurations name theirs."""
    return {key: value for key, value in sweep_plans.content(".", **given).items() if key != "data"}


@pytest.fixture
def whole_s3prl(monkeypatch):
    """Plans are checked as with a clone of S3PRL, which has the data sets of PR and SF."""
    check = arguments.stock_task
    monkeypatch.setattr(arguments, "stock_task", lambda name: None if name == "ctc" else check(name))


def resolved(root, task, **changes):
    """The only job of a plan of one task."""
    register()
    plan = parse_plan(content(root, [task], **changes), where="plan", name="toy")
    (cell,) = cells(plan)
    (job,) = Resolver(root / "out", None, several=False).jobs(cell, *(["search"] if "search" in changes else []))
    return job


def test_the_table_names_tasks_that_s3prl_has():
    assert {*(task.command for task in STOCK.values()), *REFUSED} <= {*places.stock_tasks()}


@pytest.mark.parametrize("task", STOCK)
def test_the_identity_is_that_of_the_data_and_not_of_their_place(task, tmp_path, whole_s3prl):
    first, second = resolved(tmp_path / "one", task), resolved(tmp_path / "two", task)
    assert second.key == first.key
    wav = min(path for path in (tmp_path / "two" / task).rglob("*") if path.suffix in (".wav", ".flac"))
    wav.write_bytes(wav.read_bytes() + b"\0\0")
    config = str(tmp_path / "two" / task / f"{task}.yaml")
    plan = parse_plan(without_data(tasks=[task], methods=["le"], config=config, set=SHORT), where="plan", name="toy")
    (changed,) = Resolver(tmp_path / "out", None, several=False).jobs(*cells(plan))
    assert changed.key != first.key


@pytest.mark.parametrize("task", STOCK)
def test_a_place_that_does_not_exist_is_named(task, tmp_path, whole_s3prl):
    for key in STOCK[task].places:
        changes = {**SHORT, f"downstream_expert.{key}": str(tmp_path / "nowhere")}
        with pytest.raises(
            ElpError, match=rf"downstream_expert\.{key} of {task} must be a path that exists, but is .*nowhere"
        ):
            resolved(tmp_path / key, task, set=changes)


@pytest.mark.parametrize("task", REFUSED)
def test_other_tasks_are_refused_with_the_reason(task):
    given = without_data(tasks=[task], methods=["le"])
    with pytest.raises(ElpError, match=rf"S3PRL's own task {task} .*(run it with elp run|take sv|take pr|is sd)"):
        parse_plan(given, where="plan", name="toy")


def test_a_task_without_a_config_is_refused(tmp_path):
    with pytest.raises(ElpError, match=r"config: -c is missing: the s3prl package ships no config for its task voxcel"):
        resolved(tmp_path, "voxceleb1", config=None)


@pytest.mark.parametrize(("task", "other"), [("pr", "sf"), ("sf", "pr")])
def test_the_configuration_of_another_task_is_refused(task, other, tmp_path, whole_s3prl):
    config = str(host_toys.stock_config(other, tmp_path))
    with pytest.raises(ElpError, match=rf"metric of {task} must be {STOCK[task].main_metric} .*but is"):
        resolved(tmp_path, task, config=config)


def test_recordings_that_are_evaluated_together_are_refused(tmp_path):
    with pytest.raises(ElpError, match=r"loaderrc.eval_batchsize of sd must be 1 .*but is 2"):
        resolved(tmp_path, "sd", set={**SHORT, "downstream_expert.loaderrc.eval_batchsize": 2})


def test_audio_that_a_list_names_elsewhere_counts_and_programs_are_refused(tmp_path):
    before = resolved(tmp_path, "sd").key
    folder, audio = tmp_path / "sd" / "dev", tmp_path / "sd" / "audio"
    audio.mkdir()
    (folder / "mix0.wav").rename(audio / "mix0.wav")
    text = (folder / "wav.scp").read_text()
    config = {"sd": str(tmp_path / "sd" / "sd.yaml")}

    def key(lines):
        (folder / "wav.scp").write_text(lines)
        plan = parse_plan(
            without_data(tasks=["sd"], methods=["le"], config=config, set=SHORT), where="plan", name="toy"
        )
        (job,) = Resolver(tmp_path / "out", None, several=False).jobs(*cells(plan))
        return job.key

    moved = key(text.replace(str(folder / "mix0.wav"), str(audio / "mix0.wav")))
    (audio / "mix0.wav").write_bytes((audio / "mix0.wav").read_bytes() + b"\0\0")
    changed = key(text.replace(str(folder / "mix0.wav"), str(audio / "mix0.wav")))
    assert len({before, moved, changed}) == 3
    with pytest.raises(ElpError, match=r"wav\.scp must list files, but one line runs a program"):
        key("mix0 sox mix0.wav -t wav - |\n")


def test_tasks_without_their_data_sets_say_what_to_do(tmp_path):
    with pytest.raises(ElpError, match=r"which the s3prl package lacks; .*PYTHONPATH=CLONE"):
        resolved(tmp_path, "pr")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "librosa" else found(name))
    monkeypatch.setitem(arguments._NEEDED, "voxceleb1", {"librosa": "librosa"})
    with pytest.raises(ElpError, match="voxceleb1 needs the package librosa"):
        resolved(tmp_path, "voxceleb1")


def swept(task, folder, **environment):
    """A sweep with two learning rates on dev, the better one tested: the tested run, its items, and its folder."""
    given = content(folder, [task], search={"grid": {"optimizer.lr": [0.001, 0.01]}, "seeds": [5]})
    (folder / "plan.yaml").write_text(yaml.safe_dump(given))
    words = [str(folder / "plan.yaml"), "--out", str(folder / "out"), "--jobs", "1", "--device", "cpu"]
    done = call([sys.executable, "-m", "upstream_elp.cli", "sweep", *words], seconds=900, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert STOCK[task].title in (folder / "out" / "report" / "report.md").read_text()
    report = json.loads((folder / "out" / "report" / "report.json").read_text())
    assert [run["state"] for run in report["runs"]] == ["done"] * 3
    (tested,) = (run for run in report["runs"] if run["stage"] == "final")
    (place,) = (folder / "out" / "runs" / task).iterdir()
    return tested, load_items(place, "test"), place


@pytest.mark.parametrize("task", ["speech_commands", "voxceleb1"])
def test_a_sweep_searches_trains_tests_and_reports(task, tmp_path):
    """KS and SID: the result of every utterance is kept."""
    tested, items, place = swept(task, tmp_path)
    lines, truth = ((place / f"test_{name}.txt").read_text().splitlines() for name in ("predict", "truth"))
    right = [one == other for one, other in zip(lines, truth, strict=True)]
    assert [*items.columns["acc"]] == right and [line.split()[0] for line in lines] == [*items.keys]
    assert tested["test"] == pytest.approx(100 * sum(right) / len(right))
    assert tested["metrics"][f"{task}/acc"] == pytest.approx(sum(right) / len(right))


def test_a_sweep_of_diarization(tmp_path):
    """SD: the best checkpoint has another name, and S3PRL records shares without names."""
    pytest.importorskip("h5py")
    tested, items, place = swept("sd", tmp_path)
    assert [*items.keys] == ["mix0", "mix1"]
    assert tested["test"] == pytest.approx(100 * tested["metrics"]["diarization/acc"], rel=1e-5)
    assert tested["metrics"]["frame_der"] == pytest.approx(100 * tested["metrics"]["diarization/der"], rel=1e-5)
    results = json.loads((place / "results.json").read_text())
    assert results["best_checkpoint"] == "best-states-dev.ckpt" == results["tests"][0]["checkpoint"]
    assert sorted(path.stem for path in (place / "scoring" / "predictions").iterdir()) == ["mix0", "mix1"]


@pytest.mark.slow
@pytest.mark.skipif("S3PRL_CLONE" not in os.environ, reason="needs S3PRL_CLONE, a clone of S3PRL's repository")
@pytest.mark.parametrize("task", ["pr", "sf"])
def test_a_sweep_of_phonemes_and_slots_with_a_clone(task, tmp_path):
    """What is kept for every utterance makes S3PRL's own value."""
    path = os.pathsep.join([os.environ["S3PRL_CLONE"], *sys.path])
    tested, items, place = swept(task, tmp_path, PYTHONPATH=path)
    (value,) = (tested["metrics"][key] for key in tested["metrics"] if key.endswith(f"/{STOCK[task].main_metric}"))
    assert tested["test"] == pytest.approx(100 * value)
    lines = (place / "test-hyp.ark").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [*items.keys] and len(items) == 3
    assert all(items.speaker)
