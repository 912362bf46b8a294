"""The descriptions of all tasks, which must fit their folders."""

import dataclasses
import importlib
import inspect
import json
import subprocess
import sys

import pytest
import yaml

from downstream_heads import registry
from downstream_heads.common.base import TaskExpert
from downstream_heads.common.predictor import Predictor
from downstream_heads.contract import FOLDER, LOSS, Metric, Task
from upstream_elp.adapters.config import recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.registry import corpus
from upstream_elp.host.places import stock_tasks
from upstream_elp.upstream.head_folder import read_head, write_head

TASKS = registry.tasks()


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_its_folder(name):
    task = TASKS[name]
    assert task.name == name and name.startswith("elp_") and name not in stock_tasks()
    assert task is importlib.import_module(f"downstream_heads.{name}.about").TASK is registry.find(name)
    expert, predictor, survey = (task.load(part) for part in ("expert", "predictor", "survey"))
    assert issubclass(expert, TaskExpert) and expert.about is task
    assert issubclass(predictor, Predictor) and predictor.about is task
    assert list(inspect.signature(survey).parameters) == ["block", "splits", "variant", "front"]
    assert importlib.import_module(f"downstream_heads.{name}.expert").DownstreamExpert is expert, "S3PRL finds it there"
    assert {"runner", "optimizer", "downstream_expert"} <= yaml.safe_load(task.config.read_text()).keys()


@pytest.mark.parametrize("name", TASKS)
def test_splits_metrics_and_recipes(name):
    task = TASKS[name]
    assert task.splits[0] == "train" and set(task.aliases.values()) <= set(task.splits)
    assert {task.split("dev"), task.split("test"), task.split("train")} <= set(task.splits)
    with pytest.raises(ElpError, match=rf"{name} has no split 'devel'; choose one of: train, "):
        task.split("devel")
    assert task.metrics[task.main_metric].higher_is_better is task.higher_is_better
    assert task.also is None or task.also in task.metrics
    assert "loss" not in task.metrics and task.chance.keys() <= task.metrics.keys()
    assert all(metric.unit in ("", "%") and metric.title for metric in task.metrics.values())
    for recipe in {f"{task.short}_superb.yaml", task.quick} - {None}:
        assert (recipes_dir() / "tasks" / recipe).is_file()
    assert task.quick or not task.synthesised, "what the quickstart makes data for, it can run"


def test_tasks_are_distinct_and_agree_on_their_metrics():
    for values in ([task.title for task in TASKS.values()], [task.short for task in TASKS.values()]):
        assert len(set(values)) == len(TASKS)
    assert all(corpus(task.corpus).folder for task in TASKS.values())  # several tasks may share a corpus
    seen: dict[str, Metric] = {}
    for task in TASKS.values():
        for name, metric in task.metrics.items():
            meaning = dataclasses.replace(metric, chance=None)
            assert seen.setdefault(name, meaning) == meaning, "reports read a metric by its name"
            assert dataclasses.replace(registry.metric(name), chance=None) == meaning
    assert registry.metric("loss") == LOSS and registry.metric("bleu") == Metric("bleu", "", None)


def test_an_unknown_task():
    with pytest.raises(ElpError, match=f"unknown task 'elp_xx'; the tasks are: {', '.join(TASKS)}"):
        registry.find("elp_xx")
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["elp_asr"].name = "other"


def test_the_tasks_are_known_without_torch():
    """``elp --help`` and ``elp check --help`` name them."""
    code = (
        "import sys, json; from downstream_heads import registry; registry.tasks(); registry.metric('acc');"
        "print(json.dumps([name for name in ('torch', 's3prl', 'numpy', 'yaml') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_new_task_is_one_folder(tmp_path, monkeypatch):
    """A copied folder with another name is a task everywhere, as there is no other list of tasks."""
    from click.testing import CliRunner

    from upstream_elp.commands.check import check
    from upstream_elp.launch import recipes

    folder = tmp_path / "elp_new"
    folder.mkdir()
    for path in (FOLDER / "elp_ks").glob("*.*"):
        (folder / path.name).write_text(path.read_text().replace("elp_ks", "elp_new").replace('"KS"', '"NEW"'))
    monkeypatch.setattr("downstream_heads.__path__", [str(FOLDER), str(tmp_path)])
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr("downstream_heads.contract.FOLDER", tmp_path)
    assert registry.names() == ["elp_new"] and registry.whole_name("new") == "elp_new"
    assert isinstance(registry.find("elp_new"), Task) and recipes.names()["elp_new"].parent == folder
    from tests import toy_corpora

    toy_corpora.speech_commands(tmp_path / "data")
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    done = CliRunner().invoke(check, ["-d", "new", "--data", str(tmp_path / "data"), "--quick"])
    assert done.exit_code == 0 and "no problems" in done.output and "testing" not in done.output


@pytest.mark.parametrize("name", [*TASKS, "elp_xx"])
def test_head_folders_hold_the_tasks_of_the_registry(name, tmp_path):
    from upstream_elp.upstream.head_folder import Selection, TrainedHead

    head = TrainedHead(
        task=name,
        selection=Selection(),
        upstream_dim=4,
        upstream_rate=320,
        modelrc={},
        audio={},
        precision="fp32",
        labels=None,
        tensors={},
    )
    write_head(tmp_path, head, adapter_sha256="a")
    if name in TASKS:
        assert read_head(tmp_path, adapter_sha256="a").task == name
    else:
        with pytest.raises(ElpError, match=f"unknown task 'elp_xx'; .* {', '.join(TASKS)}"):
            read_head(tmp_path, adapter_sha256="a")
