"""Jobs of two processes in a sweep, killed and resumed: they save, end together, and give what no kill would give."""

import dataclasses
import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests import sweep_plans
from tests.programs import call, ended, launch
from tests.sweep.test_runs import ELP, LONG, runs, starts, wait
from tests.sweep_folders import job_of
from upstream_elp.base.errors import DivergedError, ElpError
from upstream_elp.sweep import torchrun
from upstream_elp.sweep.locks import held, held_by_rank, locked


def command(plan, out, *more):
    return [*ELP, str(plan), "--out", str(out), "--jobs", "1", "--device", "cpu", *more]


def plan_of(folder, data, **changes):
    return sweep_plans.write(folder, data, methods=["le"], processes=2, set={**LONG, **changes})


def steps(out):
    """The optimizer steps that the only job has logged."""
    return [json.loads(line)["step"] for path in out.glob("runs/*/*/train.jsonl") for line in path.open()]


def members(process):
    """The job's process and its ranks."""
    return [each for each in psutil.Process(process.pid).children(recursive=True) if each.is_running()]


def alive(processes):
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def started(plan, out, *, after=3):
    """Start the sweep and wait until its job has made some steps."""
    process = launch(command(plan, out))
    wait(lambda: len(steps(out)) > after, process)
    assert process.poll() is None, ended(process).stderr
    return process


def ranks_of(processes):
    return [each for each in processes if "upstream_elp.sweep.rank" in " ".join(each.cmdline())]


@pytest.mark.slow
def test_two_processes_killed_in_every_way_end_as_if_never_stopped(data, tmp_path):
    plan = plan_of(tmp_path, data)
    assert call(command(plan, tmp_path / "whole"), seconds=600).returncode == 0
    out = tmp_path / "out"
    # SIGTERM of the launcher: all ranks save
    process = started(plan, out)
    there = members(process)
    assert len(ranks_of(there)) == 2
    process.send_signal(signal.SIGTERM)
    outcome = ended(process)
    assert outcome.returncode == 143 and "the same command goes on" in outcome.stderr and not alive(there)
    (folder,) = out.glob("runs/*/*")
    assert folder.joinpath("log.txt").read_text().count("stopped by SIGTERM after step") == 1
    last = max(steps(out))
    assert (folder / f"states-{last}.ckpt").is_file() and not (folder / "failed.json").exists()
    # SIGKILL of the launcher: Linux asks its job to end, and that its ranks
    process = started(plan, out, after=len(steps(out)) + 3)
    there = members(process)
    process.kill()
    ended(process)
    _, left = psutil.wait_procs(there, timeout=60)
    assert not alive(left), left
    assert (folder / f"states-{max(steps(out))}.ckpt").is_file()
    # SIGKILL of one rank: the others end too, the job has failed and is tried again
    process = started(plan, out, after=len(steps(out)) + 3)
    there = members(process)
    ranks_of(there)[1].kill()
    outcome = ended(process)
    assert outcome.returncode == 2 and "one of 2 processes was killed by SIGKILL; see" in outcome.stderr
    assert not alive(there)
    # SIGKILL of the job's own process: its ranks save, and nothing runs in their folder meanwhile
    process = started(plan, out, after=len(steps(out)) + 3)
    there = members(process)
    next(each for each in there if "upstream_elp.sweep.job" in " ".join(each.cmdline())).kill()
    outcome = ended(process)
    assert outcome.returncode == 2 and "killed by SIGKILL" in outcome.stderr
    psutil.wait_procs(there, timeout=60)
    outcome = call(command(plan, out), seconds=600)
    assert outcome.returncode == 0, outcome.stderr
    assert starts(out) == {folder.name: 5}
    assert [(run["metrics"], run["dev"]) for run in runs(out)] == [
        (run["metrics"], run["dev"]) for run in runs(tmp_path / "whole")
    ]
    facts = json.loads((folder / "done.json").read_text())
    assert facts["memory"]["host"] > 2 * 100 << 20, "of both ranks"
    assert "torchrun --nproc_per_node 2" in (out / "report" / "commands.sh").read_text()


def test_why_a_rank_failed_is_the_reason_of_the_job(data, tmp_path):
    plan = plan_of(tmp_path, data, **{"downstream_expert.modelrc.head": "nonsense"})
    outcome = call(command(plan, tmp_path / "out"), seconds=300)
    assert outcome.returncode == 2 and "'nonsense'" in outcome.stderr and "log.txt" in outcome.stderr, outcome.stderr
    (failed,) = (tmp_path / "out").glob("runs/*/*/failed.json")
    assert "'nonsense'" in json.loads(failed.read_text())["why"]


def test_the_folder_of_a_job_is_taken_while_a_rank_works_in_it(tmp_path):
    with held(tmp_path):
        assert locked(tmp_path)
        with held_by_rank(tmp_path, 1):
            assert locked(tmp_path)
    with held_by_rank(tmp_path, 1):
        assert locked(tmp_path), "also when the process that has started it is gone"
    assert not locked(tmp_path)
    waiting = os.fork()
    if not waiting:
        with held_by_rank(tmp_path, 0):
            (tmp_path / "there").touch()
            time.sleep(1)
        os._exit(0)
    while not (tmp_path / "there").exists():
        time.sleep(0.01)
    before = time.monotonic()
    with held(tmp_path):
        assert time.monotonic() - before > 0.3
    os.waitpid(waiting, 0)
    assert Path(tmp_path / "lock").exists()


def reported(why, *, elsewhere=False, diverged=False):
    return {"why": why, "elsewhere": elsewhere, "diverged": diverged}


LOST = reported("another rank has failed", elsewhere=True)


@pytest.mark.parametrize(
    ("reports", "status", "kind", "message"),
    [
        ([LOST, reported("a bad file")], 2, ElpError, "a bad file"),
        ([reported("not finite", diverged=True), {}], 2, DivergedError, "not finite"),
        ([LOST], -9, ElpError, "one of 2 processes was killed by SIGKILL"),
        ([], 7, ElpError, "one of 2 processes ended with exit status 7; see .*log.txt"),
    ],
)
def test_the_reason_is_that_of_the_rank_which_failed_first(reports, status, kind, message, tmp_path):
    job = dataclasses.replace(job_of(tmp_path, "elp_ic", "le", 0), processes=2)
    job.path.mkdir(parents=True)
    for number, report in enumerate(reports):
        (job.path / f"rank{number}.json").write_text(json.dumps({**report, "memory": {"host": 1, "gpu": 0}}))
    failure = torchrun._failure(job, status)
    assert type(failure) is kind and re.search(message, str(failure))


def test_signals_are_as_before_when_the_ranks_have_ended(tmp_path, monkeypatch):
    """torchrun's own handlers would make a failure out of a signal during the evaluation that follows."""
    from torch.distributed import run

    job = dataclasses.replace(job_of(tmp_path, "elp_ic", "le", 0), processes=2)
    job.path.mkdir(parents=True)

    def instead(argv):
        assert argv[:5] == ["--standalone", "--nproc_per_node", "2", "-m", "upstream_elp.sweep.rank"]
        signal.signal(signal.SIGTERM, lambda *_: None)
        for number in (0, 1):
            facts = {"memory": {"host": 3 + number, "gpu": 5 + number}}
            (job.path / f"rank{number}.json").write_text(json.dumps(facts))

    monkeypatch.setattr(run, "main", instead)
    before = signal.getsignal(signal.SIGTERM)
    assert torchrun.train(job, ["-m", "train"]) == {"host": 7, "gpu": 6}
    assert signal.getsignal(signal.SIGTERM) is before and "ELP_SWEEP_PARENT" not in os.environ
