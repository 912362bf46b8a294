"""The quickstart: its plan, what it keeps, its report, and a small run of everything."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from tests.programs import call
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.quickstart import quickstart
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.experiment.facts import FORMAT
from upstream_elp.experiment.layer_weights import count_models, layers
from upstream_elp.quickstart.jobs import METHODS, SYNTHESISED, TASKS, finished, make_jobs
from upstream_elp.quickstart.summary import write_report


def plan(out: Path, **changes):
    settings = {"tasks": list(SYNTHESISED), "methods": list(METHODS), "steps": None, "seed": 0, "device": "cpu"}
    data, backbone = changes.pop("data", out / "data"), changes.pop("backbone", out / "backbone.pt")
    if data.parent == out:
        data.mkdir(exist_ok=True)
    if backbone == out / "backbone.pt":
        backbone.write_bytes(b"weights")
    return make_jobs(out=out, data=data, backbone=backbone, **{**settings, **changes})


def finish(job, value=50.0, *, tested=True):
    """Write the files of a finished run."""
    folder = Path(job.folder)
    folder.mkdir(parents=True)
    task = TASKS[job.task]
    metric = task.main_metric
    checkpoint = {"checkpoint": "dev-best.ckpt", "checkpoint_step": 200}
    values = {metric: value, "uer": 60.0}
    test = {"split": task.split("test"), "step": 0, "items": 180, "metrics": values, **checkpoint}
    lines = [
        {"split": "train", "step": 100, "metrics": {"loss": 3.0}},
        {"split": "train", "step": 200, "metrics": {"loss": 2.0}},
        {"split": task.split("dev"), "step": 200, "metrics": {metric: 40.0, "uer": 70.0}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job.description.write_text(json.dumps(asdict(job)))
    results = {
        "format": FORMAT, "seconds": 12.0, "device": "CPU", "versions": {"torch": "2"},
        "parameters": {"frozen": 7, "e_adapter": 900, "p_adapter": 100, "featurizer": 4, "head": 20},
        "layer_weights": [{"layer": "L-adapter 1", "weight": 0.25}, {"layer": "L-adapter 2", "weight": 0.75}],
        "tests": [{"chance": {metric: 25.0}, **test}] if tested else [],
    }  # fmt: skip
    job.results.write_text(json.dumps(results))


def test_twelve_runs_each_with_the_flags_of_elp_run(tmp_path):
    jobs = plan(tmp_path)
    assert len({job.folder for job in jobs}) == 12
    for job in jobs:
        assert job.steps >= 120
        flags = dict(zip(job.train_argv[::2], job.train_argv[1::2], strict=False))
        assert (flags["-u"], flags["-d"], flags["-g"]) == ("elp_local", job.task, job.method)
    assert jobs[0].method == "full_finetune", "the longest runs start first"


def test_steps_and_seed_of_the_command_line_win(tmp_path):
    job = plan(tmp_path, steps=7, seed=3)[0]
    assert "config.runner.total_steps=7" in " ".join(job.train_argv)
    assert job.train_argv[job.train_argv.index("--seed") + 1] == "3"


@pytest.mark.parametrize(("changes", "message"), [({"tasks": ["elp_xx"]}, "elp_xx"), ({"methods": ["elpp"]}, "elpp")])
def test_unknown_names_are_refused_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ElpError, match=message):
        plan(tmp_path, **changes)


def test_a_finished_run_is_kept_and_another_setting_is_refused(tmp_path):
    job = plan(tmp_path)[0]
    assert not finished(job)
    finish(job)
    assert finished(job)
    with pytest.raises(ElpError, match="seed 0 instead of 1"):
        finished(plan(tmp_path, seed=1)[0])


def test_a_run_that_is_trained_but_not_tested_is_not_finished(tmp_path):
    jobs = plan(tmp_path, tasks=["elp_ic", "elp_er"])
    finish(jobs[0], tested=False)
    finish(jobs[1])
    assert [finished(job) for job in jobs[:2]] == [False, True]
    write_report(jobs, tmp_path, note="")
    assert pd.read_csv(tmp_path / "results.csv")["task"].tolist() == [jobs[1].task]


def test_another_backbone_or_another_corpus_is_another_run(tmp_path):
    finish(plan(tmp_path)[0])
    other = tmp_path / "other.pt"
    other.write_bytes(b"other weights")
    with pytest.raises(ElpError, match="backbone_sha256"):
        finished(plan(tmp_path, backbone=other)[0])
    (tmp_path / "data" / "manifest.json").write_text("another seed")
    with pytest.raises(ElpError, match="data_id"):
        finished(plan(tmp_path)[0])


def test_an_interrupted_run_of_other_settings_is_not_gone_on_with(tmp_path):
    """It would be trained partly on one corpus but named after another."""
    job = plan(tmp_path)[0]
    Path(job.folder).mkdir(parents=True)
    job.description.write_text(json.dumps(asdict(job)))
    (tmp_path / "data" / "manifest.json").write_text("another seed")
    assert not finished(plan(tmp_path)[0]), "nothing has been trained there yet"
    (Path(job.folder) / "states-80.ckpt").write_bytes(b"")
    with pytest.raises(ElpError, match=r"contains a run with data_id .* choose another --out"):
        finished(plan(tmp_path)[0])
    (tmp_path / "data" / "manifest.json").unlink()
    assert not finished(plan(tmp_path)[0]), "the same run goes on"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"methods": ["le", "d/le.yaml"]}, "--methods: le and d/le.yaml would share the folder le"),
        ({"methods": ["le", "le"]}, "--methods: le and le would share"),
        ({"tasks": ["elp_er", "elp_ic", "elp_er"]}, "--tasks: elp_er and elp_er would share"),
        ({"methods": []}, "--methods is empty; choose from .*weighted_sum"),
        ({"tasks": []}, "--tasks is empty; choose from elp_asr"),
    ],
)
def test_two_runs_in_one_folder_and_none_at_all_are_refused(names, told, tmp_path):
    with pytest.raises(ElpError, match=told):
        plan(tmp_path, **names)


def test_a_backbone_in_hugging_faces_format(tmp_path):
    backbone = tiny_backbone(family="hf_wavlm")
    first = plan(tmp_path, backbone=backbone)[0]
    assert len(first.backbone_sha256) == 64
    copy = shutil.copytree(backbone, tmp_path / "copy")
    assert plan(tmp_path, backbone=copy)[0].settings() == first.settings()
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert plan(tmp_path, backbone=copy)[0].settings() != first.settings()


@pytest.mark.parametrize("missing", ["data", "backbone"])
def test_a_missing_place_is_told_before_anything_runs(tmp_path, missing):
    with pytest.raises(ElpError, match=f"--{missing} .*nowhere"):
        plan(tmp_path, **{missing: tmp_path / "missing" / "nowhere"})


def test_the_report_says_what_came_out(tmp_path):
    jobs = plan(tmp_path)
    for index, job in enumerate(jobs):
        finish(job, value=float(index))
    text = write_report(jobs, tmp_path, note="Measured on noise.")
    assert text.startswith("Measured on noise.")
    assert all(TASKS[name].title in text for name in SYNTHESISED)
    frame = pd.read_csv(tmp_path / "results.csv")
    assert len(frame) == 12
    values = {(job.task, job.method): float(index) for index, job in enumerate(jobs)}
    assert all(row.value == values[row.task, row.method] for row in frame.itertuples())
    assert frame["task"].tolist() == [name for name in SYNTHESISED for _ in METHODS]
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert set(curves[curves["task"] == "elp_asr"]["what"]) == {"train loss", "dev character error rate (%)"}
    assert frame["loss_first"].eq(3.0).all()
    assert frame["loss_last"].eq(2.0).all()
    for column, value in (("trained_upstream", 1000), ("trained_head", 20), ("best_step", 200), ("train_seconds", 12)):
        assert frame[column].eq(value).all(), column
    weights = pd.read_csv(tmp_path / "layer_weights.csv")
    assert weights.groupby("layer")["weight"].unique().to_dict() == {1: [0.25], 2: [0.75]}
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == 12
    for name in ("curves.png", "layer_weights.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "layer_weights.csv")) == 24


def test_a_task_without_a_synthetic_corpus_needs_real_data(tmp_path):
    told = CliRunner().invoke(quickstart, ["--tasks", "ks,ic", "--out", str(tmp_path / "out")]).exception
    assert isinstance(told, ElpError) and not (tmp_path / "out").exists()
    assert str(told).startswith(
        "--tasks elp_ks: mini-SUPERB does not include the corpus; pass real corpora with --data"
    )
    (job,) = plan(tmp_path, tasks=["ks"], methods=["le"])
    assert job.task == "elp_ks" and Path(job.config).name == "ks_quick.yaml" and job.steps == 240


def test_an_unfinished_run_is_left_out_of_the_report(tmp_path):
    jobs = plan(tmp_path, tasks=["elp_ic"])
    finish(jobs[0])
    write_report(jobs, tmp_path, note="")
    assert len(pd.read_csv(tmp_path / "results.csv")) == 1


def test_parameters_are_counted_without_scores_and_fingerprints():
    checkpoint = Checkpoint(
        upstream={"e_adapter.0.w": torch.zeros(3, 2), "elp_backbone_sha256": torch.zeros(32, dtype=torch.uint8)},
        featurizer={"weights": torch.zeros(4)},
        head={"linear.weight": torch.zeros(5), "best_score": torch.zeros(1)},
    )
    assert count_models(checkpoint) == {"upstream": 6, "featurizer": 4, "head": 5}
    assert count_models(Checkpoint(head={})) == {"upstream": 0, "featurizer": 0, "head": 0}


def test_layer_weights_are_given_their_layers():
    weights = {"weights": torch.zeros(2)}
    adapters = {"l_adapter.0.norm.bias": 0, "l_adapter.2.norm.bias": 0}
    assert layers(Checkpoint(featurizer=weights, upstream=adapters)) == [1, 3]
    assert layers(Checkpoint(featurizer=weights)) == [0, 1], "without L-adapters the encoder's input comes first"


@pytest.mark.slow
def test_the_whole_quickstart_in_small_and_again(tmp_path):
    command = [
        sys.executable, "-m", "upstream_elp.cli", "quickstart", "--out", str(tmp_path),
        "--size", "tiny", "--steps", "3", "--methods", "elp,weighted_sum",
    ]  # fmt: skip
    first = call(command, seconds=600)
    assert first.returncode == 0, first.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert len(results) == 8
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/results.json")}
    second = call(command, seconds=600)
    assert second.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/results.json")} == times, (
        "nothing retrained"
    )
