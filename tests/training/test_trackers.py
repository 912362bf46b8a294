"""Weights & Biases and MLflow get what TensorBoard gets. Modules that only remember their calls stand in for both."""

import importlib.util
import json
import os
import subprocess
import sys
import types

import pytest

from tests.training_tools import flags_of, forget_after, lines_of, resuming, with_settings
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run
from upstream_elp.training import trackers
from upstream_elp.training.trackers import RUNS, TRACKERS


class Calls(list):
    """The calls of a tracker's functions: (name, arguments, keywords)."""

    def taking(self, name, result=None):
        def call(*args, **kwargs):
            self.append((name, args, kwargs))
            return result

        return call

    def of(self, name):
        return [(args, kwargs) for called, args, kwargs in self if called == name]


@pytest.fixture
def calls(monkeypatch):
    """Both packages, as far as they are called."""
    calls = Calls()
    run_ = types.SimpleNamespace(id="w1", **{name: calls.taking(f"wandb.{name}") for name in ("log", "finish")})
    run_.define_metric = calls.taking("wandb.define_metric")
    wandb = types.ModuleType("wandb")
    wandb.init = calls.taking("wandb.init", run_)
    mlflow = types.ModuleType("mlflow")
    mlflow.start_run = calls.taking("mlflow.start_run", types.SimpleNamespace(info=types.SimpleNamespace(run_id="m1")))
    for name in ("log_metric", "log_dict", "end_run"):
        setattr(mlflow, name, calls.taking(f"mlflow.{name}"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return calls


def flags(data, expdir):
    return with_settings(flags_of("elp_ic", data, expdir), "runner.trackers=['wandb', 'mlflow']")


def test_they_get_every_scalar_and_a_resumed_run_goes_on_in_the_same_one(calls, data, tmp_path):
    run(flags(data, tmp_path))
    to_wandb = [
        (name, step, value)
        for ((row,), _) in calls.of("wandb.log")
        for step in [row.pop("step")]
        for name, value in row.items()
    ]
    to_mlflow = [(name, kwargs["step"], value) for ((name, value), kwargs) in calls.of("mlflow.log_metric")]
    assert to_wandb == to_mlflow
    losses = {step: value for name, step, value in to_wandb if name.endswith("train-loss") or name == "loss"}
    assert losses, sorted({name for name, _, _ in to_wandb})
    assert {row["step"] for row in lines_of(tmp_path / "train.jsonl")} <= {step for _, step, _ in to_wandb}
    assert len(calls.of("wandb.finish")) == len(calls.of("mlflow.end_run")) == 1
    (_, started), *_ = calls.of("wandb.init")
    assert started["name"] == tmp_path.name and started["id"] is None and started["config"]["task"] == "elp_ic"
    assert json.loads((tmp_path / RUNS).read_text()) == {"wandb": "w1", "mlflow": "m1"}

    forget_after(tmp_path, 4)
    calls.clear()
    run(resuming(tmp_path, data))
    assert calls.of("wandb.init")[0][1]["id"] == "w1" and calls.of("wandb.init")[0][1]["resume"] == "allow"
    assert calls.of("mlflow.start_run")[0][1] == {"run_id": "m1", "run_name": None}
    assert min(kwargs["step"] for _, kwargs in calls.of("mlflow.log_metric")) > 4


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_or_fails_is_one_sentence(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ElpError, match=f"runner.trackers has {name}, but {name} is not installed; run pip install"):
        trackers.start([name], tmp_path, config={})

    def broken(**_):
        raise RuntimeError("no key\nsecond line")

    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(init=broken, start_run=broken))
    with pytest.raises(ElpError, match=rf"has {name}, but it does not start \(no key\); see its settings"):
        trackers.start([name], tmp_path, config={})
    assert not (tmp_path / RUNS).exists()


@pytest.mark.parametrize("content", ["{", "[1]", "3", "\x00"])
def test_broken_names_of_earlier_runs_are_one_sentence(content, calls, tmp_path):
    (tmp_path / RUNS).write_text(content)
    with pytest.raises(ElpError, match=rf"{RUNS} cannot be read \(.*\); delete it to start new runs in wandb$"):
        trackers.start(["wandb"], tmp_path, config={})


@pytest.mark.parametrize("value", ["wandb", "['tensorboard']", "[[1]]"])
def test_other_trackers_are_refused_before_training(value, data, tmp_path):
    with pytest.raises(ElpError, match=r"runner\.trackers must be a list of trackers, of wandb and mlflow, but is"):
        run(with_settings(flags_of("elp_ic", data, tmp_path), f"runner.trackers={value}"))


REAL = """
import sys
from pathlib import Path
from upstream_elp.training.trackers import start
folder = Path(sys.argv[1])
for steps in ((1, 2, 3), (3, 4)):
    (tracker,) = start([sys.argv[2]], folder, config={"task": "elp_ic", "lr": [1.0e-3]})
    for step in steps:
        tracker.log("train-loss", 1 / step, step)
    tracker.close()
if sys.argv[2] == "mlflow":
    import mlflow
    history = mlflow.MlflowClient().get_metric_history(tracker.id, "train-loss")
    assert [(each.step, each.value) for each in history][-2:] == [(3, 1 / 3), (4, 1 / 4)], history
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_the_real_packages_offline(name, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "run").mkdir()
    env = {
        **os.environ,
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path / "run"), name], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads((tmp_path / "run" / RUNS).read_text())) == {name}
    if name == "wandb":
        assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
