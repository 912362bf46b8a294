"""The pool of processes: its places, and what becomes of jobs that end, fail or are killed, with a program that stands
in for a run."""

import os

import pytest
import torch

from upstream_elp.base.errors import ElpError
from upstream_elp.sweep import launch
from upstream_elp.sweep.jobs import DONE, FAILED, failure, state_of
from upstream_elp.sweep.launch import Slot, make_slots, run_jobs
from upstream_elp.sweep.live import Display
from upstream_elp.sweep.room import Readers, Room

#: memory for everything
PLENTY = Room([], Readers(host=lambda: 2**50, used=dict))
#: called as `PROGRAM -m upstream_elp.sweep.job JOB.json [DEVICE]`; what it does depends on the job's method
PROGRAM = """#!/bin/sh
folder=$(dirname "$3")
key=$(sed -n 's/.*"key": "\\(.*\\)",.*/\\1/p' "$3")
echo "$folder $4 $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS" >> "$RECORD"
case "$(sed -n 's/.*"method": "\\(.*\\)",.*/\\1/p' "$3")" in
  le) echo "no space left"; exit 3 ;;
  elp) kill -9 $$ ;;
  e_only) exit 0 ;;
esac
sleep 1
echo "{\\"key\\": \\"$key\\", \\"train_seconds\\": 1, \\"test_seconds\\": 1}" > "$folder/done.json"
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Let the program stand in for Python; returns the file in which it records its calls."""
    path = tmp_path / "program"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(path))
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    for name in launch.THREADS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "record"


def test_what_fails_is_reported_with_its_log_and_stops_nothing_else(program, planner, capsys):
    work = planner(methods=["le", "elp", "e_only", "weighted_sum"], seeds=[0, 1]).work()
    most = []
    with Display(work.jobs, work.jobs, slots=2) as display:

        def show(pool, sentence):
            most.append(len(pool.running))
            display(pool, sentence)

        problems = run_jobs(work.jobs, [Slot("cpu", threads=3)] * 2, show=show, room=PLENTY)
    states = {(job.method, job.seed): state_of(job) for job in work.jobs}
    assert states == {(job.method, job.seed): DONE if job.method == "weighted_sum" else FAILED for job in work.jobs}
    why = {job.method: failure(job) for job in work.jobs if state_of(job) == FAILED}
    assert why == {"le": "no space left", "elp": "killed by SIGKILL", "e_only": "exit status 0"}
    assert len(problems) == 6 and all("log.txt" in problem for problem in problems)
    assert max(most) == 2
    calls = [line.split() for line in program.read_text().splitlines()]
    assert sorted(call[0] for call in calls) == sorted(job.folder for job in work.jobs)
    assert all(call[1:] == ["cpu", "3"] for call in calls)
    printed = capsys.readouterr().err
    assert "[2/8]" in printed and "failed (no space left)" in printed
    program.unlink()
    run_jobs(work.jobs, [Slot("cpu")], show=lambda pool, sentence: None, room=PLENTY)
    again = {line.split()[0] for line in program.read_text().splitlines()}
    assert again == {job.folder for job in work.jobs if job.method != "weighted_sum"}, "only what has not ended"
    assert [state_of(job) for job in work.jobs].count(DONE) == 2


def test_a_slot_has_its_gpu_and_its_threads_but_the_users_own_number_counts(monkeypatch):
    for name in launch.THREADS:
        monkeypatch.delenv(name, raising=False)
    env = Slot("cuda", "1", 4).environment()
    assert (env["CUDA_VISIBLE_DEVICES"], env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]) == ("1", "4", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Slot("cuda", "1", 4).environment()["OMP_NUM_THREADS"] == "7"


def slots(*, there=0, cores=8, monkeypatch, **options):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(there))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return make_slots(**{"jobs": None, "gpus": [], "per_gpu": 1, "device": None, **options})


def test_places_without_a_gpu(monkeypatch):
    assert slots(monkeypatch=monkeypatch) == [Slot(None, None, 2)] * 4
    assert slots(cores=1, monkeypatch=monkeypatch) == [Slot(None, None, 1)]
    assert slots(jobs=3, there=2, device="cpu", monkeypatch=monkeypatch) == [Slot("cpu", None, 2)] * 3


def test_places_on_gpus(monkeypatch):
    places = slots(there=2, per_gpu=2, monkeypatch=monkeypatch)
    assert [place.gpu for place in places] == ["0", "1", "0", "1"] and {place.threads for place in places} == {2}
    assert [place.gpu for place in slots(there=4, gpus=["1", "3"], monkeypatch=monkeypatch)] == ["1", "3"]
    assert [place.gpu for place in slots(there=2, jobs=1, monkeypatch=monkeypatch)] == ["0"]
    assert slots(there=2, device="cuda:1", jobs=1, monkeypatch=monkeypatch) == [Slot("cuda:1", None, 8)]


def test_a_job_of_several_processes_has_a_gpu_for_each(monkeypatch):
    found = slots(there=5, processes=2, per_gpu=2, monkeypatch=monkeypatch)
    assert [place.gpu for place in found] == ["0,1", "2,3", "0,1", "2,3"], "the fifth GPU stays free"
    assert {place.threads for place in found} == {1}
    assert [place.gpu for place in slots(there=4, gpus=["3", "1"], processes=2, monkeypatch=monkeypatch)] == ["3,1"]
    assert slots(processes=2, monkeypatch=monkeypatch) == [Slot(None, None, 2)] * 2
    assert slots(processes=16, monkeypatch=monkeypatch) == [Slot(None, None, 1)]
    assert slots(jobs=3, processes=2, there=1, device="cpu", monkeypatch=monkeypatch) == [Slot("cpu", None, 1)] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"there": 1, "processes": 2}, "processes: 2 needs as many GPUs, but 1 GPU is to be used"),
        (
            {"there": 4, "gpus": ["0", "1"], "processes": 3},
            "processes: 3 needs as many GPUs, but 2 GPUs are to be used",
        ),
        ({"there": 4, "device": "cuda:1", "processes": 2}, "processes: 2 needs as many GPUs, but 1 GPU is to be used"),
        ({"gpus": ["0"]}, "must name GPUs of this machine, but it has none"),
        ({"gpus": ["2"], "there": 2}, "must name GPUs from 0 to 1, but names 2"),
        ({"gpus": ["0"], "there": 2, "device": "cpu"}, "must go with a CUDA device, but --device is cpu"),
    ],
)
def test_gpus_that_do_not_exist(options, message, monkeypatch):
    with pytest.raises(ElpError, match=message):
        slots(monkeypatch=monkeypatch, **options)
