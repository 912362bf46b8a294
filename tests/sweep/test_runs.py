"""Sweeps that really run: failures, interruptions and kills, each in processes as a user starts them."""

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import sweep_plans
from tests.programs import call, ended, launch

ELP = [sys.executable, "-m", "upstream_elp.cli", "sweep"]


def command(plan, out, *more):
    return [*ELP, str(plan), "--out", str(out), "--jobs", "2", "--device", "cpu", *map(str, more)]


def runs(out):
    return json.loads((out / "report" / "report.json").read_text())["runs"]


def starts(out):
    """How often each job was started, by its log."""
    logs = out.glob("*/*/*/log.txt")
    return {log.parent.name: log.read_text(errors="replace").count("elp: job ") for log in logs}


@pytest.mark.slow
def test_a_failed_job_is_reported_and_does_not_stop_the_others(data, tmp_path):
    grid = {"downstream_expert.modelrc.head": ["nonsense", "linear"]}
    plan = sweep_plans.write(tmp_path, data, methods=["weighted_sum"], grid=grid)
    outcome = call(command(plan, tmp_path / "out"))
    assert (
        outcome.returncode == 2 and "1 of 2 jobs failed (the others are kept; the same command tries" in outcome.stderr
    )
    assert "head=nonsense" in outcome.stderr and "log.txt" in outcome.stderr and "'nonsense'" in outcome.stderr
    assert {run["setting"]: run["state"] for run in runs(tmp_path / "out")} == {
        "head=nonsense": "failed",
        "head=linear": "done",
    }
    content = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert [cell["setting"] for cell in content["cells"]] == ["head=linear"]
    assert "head=nonsense" in (tmp_path / "out" / "report" / "report.md").read_text(), "the failed job is listed"
    again = call(command(plan, tmp_path / "out"))
    assert again.returncode == 2
    assert sorted(starts(tmp_path / "out").values()) == [1, 2], "only the failed job is tried again"
    sweep_plans.write(
        tmp_path, data, methods=["weighted_sum"], grid={**grid, "downstream_expert.modelrc.head": ["linear"]}
    )
    assert call(command(plan, tmp_path / "out")).returncode == 0, "a changed plan runs only what is new"
    assert sorted(starts(tmp_path / "out").values()) == [1, 2]


def wait(condition, process, seconds=120):
    """Wait for a condition while the process runs."""
    for _ in range(seconds * 20):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError("it takes too long")


LONG = {**sweep_plans.SHORT, "runner.total_steps": 60, "runner.eval_step": 30, "runner.save_step": 30}


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="ctrl-c", marks=pytest.mark.slow), pytest.param(signal.SIGTERM, id="term")],
)
def test_a_signal_ends_all_processes_cleanly_and_says_how_to_go_on(number, data, tmp_path):
    plan = sweep_plans.write(tmp_path, data, methods=["le"], seeds=[0, 1], set={**LONG, "runner.total_steps": 100000})
    out = tmp_path / "out"
    before = signal.signal(number, signal.SIG_DFL)  # a suite in the background of a shell ignores Ctrl-C
    process = launch(command(plan, out))
    signal.signal(number, before)
    wait(lambda: len(list(out.glob("runs/*/*/train.jsonl"))) == 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    outcome = ended(process)
    assert outcome.returncode == 128 + number
    assert (
        "stopping: 2 running jobs save their state" in outcome.stderr and "the same command goes on" in outcome.stderr
    )
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert len(list(out.glob("runs/*/*/states-*.ckpt"))) >= 2
    assert not list(out.glob("runs/*/*/failed.json"))
    assert call([*ELP, str(plan), "--out", str(out), "--status"]).stdout.count(" partial ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(seed, data, tmp_path):
    """The launcher and jobs are killed; every job that has ended ran once to its end, with the results of no kill."""
    plan = sweep_plans.write(tmp_path, data, tasks=["ic", "er"], set=LONG)
    call(command(plan, tmp_path / "whole"), seconds=600)
    out, chance = tmp_path / "out", random.Random(seed)
    done: dict[str, float] = {}
    for number in itertools.count():
        process = launch(command(plan, out))
        if number < 4:
            time.sleep(chance.uniform(5, 25))
            children = psutil.Process(process.pid).children() if process.poll() is None else []
            victims = [process.pid] if number % 2 else [child.pid for child in children[:1]]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):  # it may have ended in the meantime
                    os.kill(pid, signal.SIGKILL)
        outcome = ended(process, seconds=600)
        now = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/*/done.json")}
        assert done.items() <= now.items(), "what had ended was not run again"
        done = now
        if outcome.returncode == 0:
            break
        assert number < 12, outcome.stderr
    tests = {run["key"]: (run["metrics"], run["dev"]) for run in runs(out)}
    assert tests == {run["key"]: (run["metrics"], run["dev"]) for run in runs(tmp_path / "whole")}
    for path in out.glob("runs/*/*/train.jsonl"):
        steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert steps[-1] == 60 and steps == sorted(steps)


@pytest.mark.slow
def test_a_search_and_its_test_in_one_command(data, tmp_path):
    search = {"seeds": [100], "grid": {"optimizer.lr": [1e-5, 1e-2]}}
    plan = sweep_plans.write(tmp_path, data, seeds=[0, 1], search=search)
    outcome = call(command(plan, tmp_path / "out"), seconds=600)
    assert outcome.returncode == 0, outcome.stderr
    found = runs(tmp_path / "out")
    assert [run["stage"] for run in found].count("search") == 4 and len(found) == 8
    assert all((run["test"] is None) == (run["stage"] == "search") for run in found)
    text = (tmp_path / "out" / "report" / "report.md").read_text()
    assert "chosen on dev" in text and "4 settings in 2 searches" in text
    assert not [path for path in (tmp_path / "out" / "search").rglob("metrics.jsonl") if '"test"' in path.read_text()]


@pytest.mark.slow
def test_array_elements_equal_the_local_run(data, tmp_path):
    """The script's elements, run with bash; tests/slurm.sh submits them to a real SLURM."""
    plan = sweep_plans.write(tmp_path, data)
    assert call(command(plan, tmp_path / "local"), seconds=600).returncode == 0
    out = tmp_path / "array"
    without = {"PATH": str(Path(sys.executable).parent)}  # no sbatch, even on a machine with SLURM
    outcome = call([*ELP, str(plan), "--out", str(out), "--slurm", "time=01:00:00", "--device", "cpu"], **without)
    assert outcome.returncode == 0 and "2 jobs in" in outcome.stdout, outcome.stderr
    for element in ("1", "2", "2"):
        script = str(out / "slurm" / "array.sbatch")
        assert call(["/bin/bash", script], SLURM_ARRAY_TASK_ID=element).returncode == 0
    assert set(starts(out).values()) == {1}, "an element whose job has ended does not run it again"
    outcome = call([*ELP, str(plan), "--out", str(out), "--slurm", "time=01:00:00"], **without)
    assert "nothing is left to submit" in outcome.stdout and "IC: accuracy (%)" in outcome.stdout
    here, there = ({run["key"]: run["metrics"] for run in runs(place)} for place in (out, tmp_path / "local"))
    assert here == there
