"""The quickstart: its plan, what it refuses, and a small run of everything."""

import json
import shutil
import sys

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from tests.programs import call
from upstream_elp.adapters.config import load_config, recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.quickstart import quickstart
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.experiment.layer_weights import count_models, layers
from upstream_elp.launch import recipes
from upstream_elp.launch.chosen import ChosenAdapter
from upstream_elp.quickstart import plan as module
from upstream_elp.quickstart.plan import FAST_METHODS, FAST_TASKS, METHODS, SYNTHESISED, check_names, make_plan
from upstream_elp.sweep.points import cells

MEASURED = ("train_seconds", "peak_memory_bytes")


def plan(tmp_path, **changes):
    backbone = tmp_path / "backbone.pt"
    backbone.write_bytes(b"weights")
    settings = {"tasks": SYNTHESISED, "methods": METHODS, "steps": None, "seed": 0}
    return make_plan(backbone=backbone, data=tmp_path, **{**settings, **changes})


def refused(*flags):
    return str(CliRunner().invoke(quickstart, flags).exception)


def test_every_method_on_every_task_with_the_quick_recipes(tmp_path):
    found = cells(plan(tmp_path, seed=3))
    assert {(cell.task, cell.method.name) for cell in found} == {
        (task, name) for task in SYNTHESISED for name in METHODS
    }
    assert found[0].method.name == "elp_zero", "the others begin from the frozen features that it keeps"
    for cell in found:
        assert cell.seeds == (3,) and cell.values == {"runner.eval_dataloaders": []}
        assert (recipes_dir() / "tasks" / f"{cell.config}.yaml").is_file() and cell.config.endswith("_quick")
        assert (cell.backbone is None) == (cell.method.name == "fbank")


def test_steps_of_the_command_line_win(tmp_path):
    for cell in cells(plan(tmp_path, steps=7)):
        assert cell.values["runner.total_steps"] == 7 and cell.values["runner.eval_step"] == 7


@pytest.mark.parametrize(
    ("flags", "tasks", "methods"),
    [
        ([], SYNTHESISED, METHODS),
        (["--fast"], ("elp_er", "elp_ic"), FAST_METHODS),
        (["--fast", "--tasks", "sv"], ("elp_sv",), FAST_METHODS),
        (["--fast", "--methods", "elp_zero"], FAST_TASKS, ("elp_zero",)),
    ],
)
def test_fast_only_changes_the_default_tasks_and_methods(flags, tasks, methods, tmp_path, monkeypatch):
    planned = []
    monkeypatch.setattr(module, "make_plan", lambda **options: planned.append(options) or 1 / 0)
    (tmp_path / "backbone.pt").write_bytes(b"weights")
    places = ["--data", str(tmp_path), "--backbone", str(tmp_path / "backbone.pt"), "--out", str(tmp_path / "out")]
    CliRunner().invoke(quickstart, [*flags, *places])
    assert tuple(planned[0]["tasks"]) == tasks and tuple(planned[0]["methods"]) == methods
    assert planned[0]["steps"] is None


def test_a_file_needs_no_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("base: le\n")
    assert check_names(["ic"], ["mine", "fbank"]) == ["elp_ic"]


def test_every_quick_recipe_has_a_rate_for_each_part_of_each_method():
    for task in (module.TASKS[name] for name in SYNTHESISED):
        for method in METHODS[1:]:
            path = recipes_dir() / "tasks" / task.quick
            content = recipes.read_for(path, ChosenAdapter("elp_local", names=(method,), config=load_config(method)))
            assert set(load_config(method).methods) <= set(content["optimizer"]["groups"]), (task.quick, method)


@pytest.mark.parametrize(
    ("tasks", "methods", "message"),
    [
        (["xx"], ["le"], "unknown task 'xx'; the tasks are: elp_asr"),
        (["ic"], ["elpp"], "--methods must be presets, YAML files or fbank, but 'elpp' is none of these; did you mean"),
        (["ic"], ["fbnk"], "did you mean fbank"),
        (["ic"], ["zzz"], "choose from fbank, adapterbias"),
        (["ic"], ["x" * 5000], "choose from fbank, adapterbias"),
        (["ic"], ["a\0b"], "choose from fbank, adapterbias"),
        (["ic"], ["le", "le"], "--methods must name each of them once, but le is there twice"),
        (["er", "ic", "elp_er"], ["le"], "--tasks must name each of them once, but elp_er is there twice"),
        (["ic"], [], "--methods is empty; choose from fbank, .*weighted_sum"),
        ([], ["le"], "--tasks is empty; choose from elp_asr"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(tasks, methods, message):
    with pytest.raises(ElpError, match=message):
        check_names(tasks, methods)


def test_missing_places_are_refused_before_anything_is_made(tmp_path):
    out = tmp_path / "out"
    for flag in ("--data", "--backbone"):
        assert refused(flag, str(tmp_path / "nowhere"), "--out", str(out)).startswith(
            f"{flag} {tmp_path}/nowhere: no such"
        )
    assert refused("--tasks", "ks,ic", "--out", str(out)).startswith(
        "--tasks elp_ks: mini-SUPERB does not include the corpus; pass real corpora with --data"
    )
    assert not out.exists()


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
        "--size", "tiny", "--steps", "3", "--methods", "elp,weighted_sum,fbank",
    ]  # fmt: skip
    first = call(command, seconds=600)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "| weighted_sum" in first.stdout and "± " in first.stdout
    report = tmp_path / "report"
    table = pd.read_csv(report / "tables" / "results.csv")
    assert len(table) == 12 and set(table["method"]) == {"elp", "weighted_sum", "fbank"}
    content = json.loads((report / "report.json").read_text())
    assert content["description"].startswith("Measured on synthetic mini-SUPERB")
    assert {row["baseline_difference"] is None for row in content["cells"] if row["method"] != "weighted_sum"} == {
        False
    }
    assert not (tmp_path / "cache").exists()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/results.json")}
    assert len(times) == 12
    shutil.rmtree(next(iter(times)).parent)
    second = call(command, seconds=600)
    assert second.returncode == 0
    again = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/results.json")}
    assert len({*times.items()} & {*again.items()}) == 11 and len(again) == 12, "only what was missing is trained"
    pd.testing.assert_frame_equal(
        pd.read_csv(report / "tables" / "results.csv").drop(columns=list(MEASURED)), table.drop(columns=list(MEASURED))
    )
