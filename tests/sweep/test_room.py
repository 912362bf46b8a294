"""Memory: what a job is expected to take, and when it has to wait, with made-up sizes of everything."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sweep_folders import job_of
from upstream_elp.sweep import launch, memory
from upstream_elp.sweep.jobs import end
from upstream_elp.sweep.launch import Pool, Slot
from upstream_elp.sweep.live import Display
from upstream_elp.sweep.room import GIB, SHARE, UNKNOWN, Readers, Room, Running, guess


def jobs_of(folder, *methods, seeds=(0, 1)):
    return [job_of(folder, "elp_ic", method, seed) for method in methods for seed in seeds]


def ended_with(job, *, host=0, gpu=0):
    job.path.mkdir(parents=True, exist_ok=True)
    end(job, train_seconds=1, test_seconds=1, memory={"host": host, "gpu": gpu})


def room(known, *, free=None, used=None, gpu=None):
    readers = Readers(host=lambda: free, used=lambda: used or {}, gpu=lambda environment: gpu)
    found = Room(known, readers)
    found.update()  # reads what has ended; the memory is read when it is asked for
    return found


def running(*jobs, gpu=None):
    return [Running(job, number, gpu) for number, job in enumerate(jobs)]


def test_what_a_job_takes_is_the_peak_of_the_most_similar_ones_that_have_ended(tmp_path):
    le, other, wide = jobs_of(tmp_path, "le", "elp", "wide", seeds=(0,))
    again = job_of(tmp_path, "elp_ic", "le", 1)
    known = [le, other, wide, again]
    need = lambda job: room(known)._expected("host", job)  # noqa: E731
    assert need(again) is None
    ended_with(other, host=5 * GIB)
    assert need(again) == 5 * GIB, "of another method on the same task and backbone"
    ended_with(le, host=2 * GIB)
    assert need(again) == 2 * GIB and need(wide) == 5 * GIB
    ended_with(again, host=3 * GIB)
    assert need(le) == 3 * GIB, "the largest one"
    varied = job_of(tmp_path, "elp_ic", "le", 0, varied={"downstream_expert.datarc.train_batch_size": 64})
    ended_with(varied, host=9 * GIB)
    assert room([*known, varied])._expected("host", le) == 3 * GIB


def test_a_job_waits_until_it_fits_next_to_what_runs(tmp_path):
    first, second, third = jobs_of(tmp_path, "le", seeds=(0, 1, 2))
    ended_with(third, host=6 * GIB)
    known = [first, second, third]
    args = (second, None, {})
    assert room(known, free=7 * GIB, used={0: 6 * GIB}).lacking(*args, running(first)) == ""
    why = room(known, free=7 * GIB, used={0: 2 * GIB}).lacking(*args, running(first))
    assert "takes about 6.0 GiB, and 3.0 are left" in why, "the running one is still going to take 4 GiB"
    assert room(known, free=7 * GIB, used={0: 8 * GIB}).lacking(*args, running(first)), "it takes more than expected"
    assert room(known, free=0).lacking(*args, []) == "", "one job may always run"
    assert room(known, free=None).lacking(*args, running(first)) == "", "the system does not say"


def test_what_an_unknown_job_takes_follows_from_its_backbone(tmp_path):
    job = job_of(tmp_path, "elp_ic", "le", 0)
    assert guess(job) == UNKNOWN, "its backbone is not here"
    (tmp_path / "folder").mkdir()
    for name in ("file.pt", "folder/part1", "folder/part2"):
        (tmp_path / name).write_bytes(bytes(1000))
    place = lambda name: dataclasses.replace(job, place=str(tmp_path / name))  # noqa: E731
    assert guess(place("file.pt")) == GIB + 4000 and guess(place("folder")) == GIB + 8000
    assert guess(dataclasses.replace(place("file.pt"), processes=2)) == 2 * (GIB + 4000)
    assert guess(job_of(tmp_path, "elp_ic", "fbank", 0)) >= GIB
    assert guess(dataclasses.replace(job_of(tmp_path, "elp_ic", "fbank", 0), place=None)) == GIB


def test_unknown_jobs_start_while_there_is_plenty(tmp_path):
    first, second = jobs_of(tmp_path, "le")
    assert not room([], free=2 * UNKNOWN).lacking(second, None, {}, running(first))
    assert room([], free=2 * UNKNOWN - 1).lacking(second, None, {}, running(first))


def test_a_gpu_is_looked_at_only_if_it_is_shared(tmp_path):
    first, second, third = jobs_of(tmp_path, "le", seeds=(0, 1, 2))
    full = (1 * GIB, 80 * GIB)
    there = running(first, gpu="0")
    assert not room([], free=100 * GIB, gpu=full).lacking(second, "1", {}, there)
    assert "memory of GPU 0" in room([], free=100 * GIB, gpu=full).lacking(second, "0", {}, there)
    free = (79 * GIB, 80 * GIB)  # the first one has only just started
    assert not room([], free=100 * GIB, gpu=free).lacking(second, "0", {}, there), f"unknown: {SHARE} of it each"
    both = running(first, second, gpu="0")
    assert room([], free=100 * GIB, gpu=free).lacking(third, "0", {}, both)
    ended_with(third, host=GIB, gpu=20 * GIB)
    assert not room([third], free=100 * GIB, gpu=free).lacking(third, "0", {}, both)
    assert room([third], free=100 * GIB, gpu=(19 * GIB, 80 * GIB)).lacking(third, "0", {}, both)
    assert not room([third], free=100 * GIB, gpu=None).lacking(third, "0", {}, both), "the GPU does not say"


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 10), min_size=1, max_size=8),
    total=st.integers(1, 16),
    slots=st.integers(1, 4),
    data=st.data(),
)
def test_a_pool_never_takes_more_than_there_is_unless_by_one_job(sizes, total, slots, data, tmp_path_factory):
    """Of jobs whose peaks are known; and every job starts in the end."""
    folder = tmp_path_factory.mktemp("pool")
    jobs = [job_of(folder, "elp_ic", f"m{number}", 0) for number in range(len(sizes))]
    size = dict(zip((job.key for job in jobs), sizes, strict=True))
    pool = Pool([Slot()] * slots, room([]), deque(jobs))
    now = lambda: sum(size[key] for key in pool.running) * GIB  # noqa: E731
    pool.room.readers = Readers(
        host=lambda: total * GIB - now(),
        used=lambda: {pid: size[key] * GIB for pid, key in enumerate(pool.running)},
    )
    pool.room._expected = lambda what, job: size[job.key] * GIB
    started = 0
    for _ in itertools.count():
        pool.lacking = ""
        while len(pool.running) < slots:
            job = launch._next(pool, Slot())
            if job is None:
                break
            pid = len(pool.running)
            pool.running[job.key] = (job, type("Process", (), {"pid": pid}), Slot())
            started += 1
            assert len(pool.running) == 1 or now() <= total * GIB
        if not pool.running:
            break
        ended = data.draw(st.sampled_from(sorted(pool.running)))
        del pool.running[ended]
        pool.running = {  # pids are places, as above
            key: (job, type("Process", (), {"pid": place}), slot)
            for place, (key, (job, _, slot)) in enumerate(pool.running.items())
        }
    assert started == len(jobs) and not pool.waiting


# readers -----------------------------------------------------------------------------------------------------------


def kernel(folder, *, available=None, groups=(), cgroup=""):
    """A made-up /proc and control groups: (folder, limit, use, cached files)."""
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    if available is not None:
        (proc / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available // 1024} kB\nHugePages: 0\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    for place, limit, use, cached, names in groups:
        path = folder / "groups" / place
        path.mkdir(parents=True, exist_ok=True)
        (path / names[0]).write_text(f"{limit}\n")
        (path / names[1]).write_text(f"{use}\n")
        (path / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")
    return proc, folder / "groups"


NEW = ("memory.max", "memory.current", "inactive_file")
OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.mark.parametrize(
    ("described", "free"),
    [
        ({"available": 8 * GIB}, 8 * GIB),
        ({}, None),
        ({"available": 8 * GIB, "cgroup": "0::/a/b\n", "groups": [("a/b", 4 * GIB, 3 * GIB, GIB, NEW)]}, 2 * GIB),
        ({"available": 8 * GIB, "cgroup": "0::/a/b\n", "groups": [("a", 3 * GIB, 2 * GIB, 0, NEW)]}, GIB),
        ({"available": 8 * GIB, "cgroup": "0::/a\n", "groups": [("a", "max", 2 * GIB, 0, NEW)]}, 8 * GIB),
        ({"available": 8 * GIB, "cgroup": "0::/a\n", "groups": [("a", GIB, 2 * GIB, 0, NEW)]}, 0),
        (
            {
                "available": 8 * GIB,
                "cgroup": "5:cpu:/x\n4:memory:/job\n",
                "groups": [("memory/job", 4 * GIB, 3 * GIB, 0, OLD)],
            },
            GIB,
        ),
    ],
)
def test_free_memory_is_what_the_machine_and_its_control_groups_leave(described, free, tmp_path):
    found = memory.free_host(*kernel(tmp_path, **described))
    assert found == free or found == pytest.approx(free, abs=1024)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux")
def test_a_process_and_what_it_has_started_are_counted_together():
    program = "import subprocess, sys, time; x = bytearray(50 << 20); x[::4096] = b'1' * len(x[::4096])\n"
    child = f"{program}print('there', flush=True); time.sleep(60)"
    parent = f"{program}subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    try:
        process.stdout.readline()
        found = memory.used()
        assert 100 << 20 < found[process.pid] < 400 << 20
        assert found[os.getpid()] > found[process.pid], "it is this process's child"
        assert len(memory.family(process.pid)) == 2 and {*memory.family(process.pid)} < {*memory.family(os.getpid())}
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_the_peak_of_a_process_counts_what_it_has_freed_again():
    program = "from upstream_elp.sweep import memory; import json\n"
    program += "x = bytearray(200 << 20); x[::4096] = b'1' * len(x[::4096]); del x\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}print(json.dumps(memory.peaks()))"], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert 200 << 20 < found["host"] < 2 << 30 and found["gpu"] == 0


@pytest.mark.gpu
def test_a_gpu_says_what_is_free_and_a_process_what_it_took():
    import torch

    free, total = memory.gpu(os.environ)
    assert 0 < free <= total == torch.cuda.get_device_properties(0).total_memory
    torch.empty(2**28, dtype=torch.uint8, device="cuda")
    assert memory.peaks()["gpu"] >= 2**28 + memory.CONTEXT and memory.gpu(os.environ)[0] < free


def test_memory_is_read_once_per_look_however_many_jobs_wait(tmp_path):
    asked = []
    readers = Readers(
        host=lambda: asked.append("host") or 0, used=lambda: asked.append("used") or {},
        gpu=lambda environment: asked.append("gpu") or (0, 1),
    )  # fmt: skip
    waiting = [job_of(tmp_path, "elp_ic", "le", seed) for seed in range(50)]
    pool = Pool([Slot(gpu="0")] * 3, Room([], readers), deque(waiting[1:]))
    pool.running[waiting[0].key] = (waiting[0], type("Process", (), {"pid": 1}), Slot(gpu="0"))
    launch._start(pool)
    assert len(pool.running) == 1 and pool.lacking and sorted(asked) == ["host", "used"]
    launch._start(pool)
    assert len(asked) == 2, "not at once again"


def test_a_full_gpu_does_not_keep_another_one_free(tmp_path, monkeypatch):
    monkeypatch.setattr(launch.sys, "executable", "/bin/true")
    first, *waiting = [job_of(tmp_path, "elp_ic", "le", seed) for seed in range(3)]
    readers = Readers(host=lambda: 99 * GIB, used=dict, gpu=lambda environment: (0, 80 * GIB))
    pool = Pool([Slot(gpu="0"), Slot(gpu="0"), Slot(gpu="1")], Room([], readers), deque(waiting))
    pool.running[first.key] = (first, type("Process", (), {"pid": 1}), Slot(gpu="0"))
    launch._start(pool)
    assert [slot.gpu for _, _, slot in pool.running.values()] == ["0", "1"] and len(pool.waiting) == 1
    assert "memory of GPU 0" in pool.lacking
    pool.running[waiting[0].key][1].wait()


def test_a_wait_for_memory_is_said_once(tmp_path, monkeypatch):
    jobs = [job_of(tmp_path, "elp_ic", "le", seed) for seed in range(3)]
    monkeypatch.setattr(launch.sys, "executable", "/bin/true")  # ends at once, without any result
    said = []
    readers = Readers(host=lambda: 0, used=dict)
    launch.run_jobs(jobs, [Slot(), Slot()], show=lambda pool, text: said.append(text), room=Room([], readers))
    waits = [text for text in said if "waits for memory" in text]
    assert 1 <= len(waits) <= 2 and "it takes about 4.0 GiB, and 0.0 are left" in waits[0]
    assert sum("failed" in text for text in said) == 3


def test_the_table_says_what_waits_for_memory(tmp_path):
    display = Display([], [], slots=2)
    pool = Pool([Slot()], Room([]))
    assert "\n" not in display.table(pool).renderables[0].plain
    pool.lacking = "ic/le waits for memory: it takes about 4.0 GiB, and 1.0 are left"
    assert display.table(pool).renderables[0].plain.endswith(f"\n{pool.lacking}")
