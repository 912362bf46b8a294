"""Run jobs in a bounded pool of processes on this machine, each with its own log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.sweep.jobs import DONE, Job, fail, failure, state_of
from upstream_elp.sweep.memory import family
from upstream_elp.sweep.parent import PARENT
from upstream_elp.sweep.room import Room, Running

PAUSE = 0.2
"""Seconds between two looks at the running processes."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Slot:
    """A place for one job.

    Args:
        device: torch device; None for CUDA if there is any.
        gpu: the value of ``CUDA_VISIBLE_DEVICES``, one GPU per process of the job; None to leave it as it is.
        threads: CPU threads of each process; None to leave the user's setting.
    """

    device: str | None = None
    gpu: str | None = None
    threads: int | None = None

    def environment(self) -> dict[str, str]:
        """The environment of a process in this slot; the user's own number of threads counts."""
        env = dict(os.environ, PYTHONWARNINGS="ignore")
        env[PARENT] = str(os.getpid())
        if self.gpu is not None:
            env["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.threads is not None and not any(name in os.environ for name in THREADS):
            env |= dict.fromkeys(THREADS, str(self.threads))
        return env


class Stopped(Exception):
    """The launcher was asked to stop; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class Pool:
    """What runs, waits and has ended.

    Args:
        slots: the places for processes.
        waiting: jobs that have not started.
        running: job -> its process and slot.
        ended: jobs that have ended in this call.
        problems: one sentence per failed job.
        room: what fits into memory.
        lacking: why a slot is free although jobs wait; empty otherwise.
        said: the job of which that was last reported.
    """

    slots: Sequence[Slot]
    room: Room
    waiting: deque[Job] = field(default_factory=deque)
    running: dict[str, tuple[Job, subprocess.Popen, Slot]] = field(default_factory=dict)
    ended: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lacking: str = ""
    said: str = ""


def make_slots(
    *, jobs: int | None, gpus: Sequence[str], per_gpu: int, device: str | None, processes: int = 1
) -> list[Slot]:
    """The places for processes on this machine.

    Args:
        jobs: number of jobs at a time; None for one per place on a GPU, or else one process per core, at most 4.
        gpus: ids of GPUs; empty for all that torch sees, unless the device is the CPU.
        per_gpu: jobs per GPU.
        device: torch device; None for CUDA if there is any.
        processes: processes per job, each on a GPU of its own.

    Raises:
        ElpError: GPUs for a job on the CPU, a GPU that does not exist, or fewer GPUs than a job has processes.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and device is not None and not device.startswith("cuda"):
        raise ElpError(
            f"--gpus {','.join(gpus)} must go with a CUDA device, but --device is {device}; remove one of them"
        )
    if gpus and not there:
        raise ElpError(f"--gpus {','.join(gpus)} must name GPUs of this machine, but it has none; remove --gpus")
    for gpu in gpus:
        if gpu.isdecimal() and "CUDA_VISIBLE_DEVICES" not in os.environ and int(gpu) >= there:
            raise ElpError(f"--gpus must name GPUs from 0 to {there - 1}, but names {gpu}; correct it")
    if device is not None and not device.startswith("cuda"):
        there = 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else None
    used = list(gpus) or (visible or [str(number) for number in range(there)] if there else [])
    if device is not None and ":" in device:  # the user's own choice of one GPU
        used = []
    if there and len(used) < processes > 1:
        have = counted(max(1, len(used)), "GPU is", "GPUs are")
        raise ElpError(f"processes: {processes} needs as many GPUs, but {have} to be used; name more, or lower it")
    groups = [",".join(used[at : at + processes]) for at in range(0, len(used) - processes + 1, processes)]
    count = jobs or (len(groups) * per_gpu if groups else 1 if there else max(1, min(4, cores) // processes))
    threads = max(1, cores // (count * processes))
    if not groups:
        return [Slot(device, None, threads) for _ in range(count)]
    places = [group for _ in range(per_gpu) for group in groups]
    return [Slot("cuda", group, threads) for group in places[:count]]


def run_jobs(
    jobs: Sequence[Job], slots: Sequence[Slot], *, show: Callable[[Pool, str], None], room: Room | None = None
) -> list[str]:
    """Run all jobs that have not ended; a failed one does not stop the others.

    Args:
        jobs: the jobs, in the order in which they start.
        slots: the places for processes.
        show: called about every :data:`PAUSE` seconds with the pool, and a sentence if something has happened.
        room: what fits into memory; None to judge by the jobs themselves.

    Returns:
        One sentence per failed job.

    Raises:
        Stopped: a signal ended the pool; all processes have ended.
    """
    pool = Pool(slots, room or Room(jobs), deque(job for job in jobs if state_of(job) != DONE))
    with _noted() as asked:
        try:
            while (pool.waiting or pool.running) and not asked:
                _start(pool)
                if (job := pool.lacking.partition(" ")[0]) and job != pool.said:
                    pool.said = job
                    show(pool, pool.lacking)
                for sentence in _ended(pool) or [""]:
                    show(pool, sentence)
                time.sleep(PAUSE if pool.running else 0)
        finally:
            _stop(pool, asked, show)
    if asked:
        raise Stopped(asked[0])
    return pool.problems


def _start(pool: Pool) -> None:
    """Start jobs in the free slots, as far as they fit into memory."""
    free = list(pool.slots)
    for _, _, slot in pool.running.values():
        free.remove(slot)
    if not (free and pool.waiting) or (pool.lacking and pool.running and not pool.room.due()):
        return
    pool.room.update()
    pool.lacking = ""
    for slot in free:
        if (job := _next(pool, slot)) is None:
            continue
        job.path.mkdir(parents=True, exist_ok=True)
        job.write()
        with job.log.open("a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "upstream_elp.sweep.job", str(job.file)]
            command += [slot.device] if slot.device else []
            # a session of its own, so that Ctrl-C reaches only the launcher, which then stops the runs itself
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=slot.environment(),
                start_new_session=True,
            )  # fmt: skip
        pool.running[job.key] = (job, process, slot)


def _next(pool: Pool, slot: Slot) -> Job | None:
    """Take the first waiting job that fits; None if none does, of which the pool then says why."""
    running = [Running(job, process.pid, place.gpu) for job, process, place in pool.running.values()]
    environment = slot.environment()
    for job in pool.waiting:
        why = pool.room.lacking(job, slot.gpu, environment, running)
        if not why:
            pool.waiting.remove(job)
            return job
        pool.lacking = pool.lacking or why
    return None


def _ended(pool: Pool) -> list[str]:
    """Take note of the processes that have ended; return a sentence about each."""
    sentences = []
    for job, process, _ in list(pool.running.values()):
        code = process.poll()
        if code is None:
            continue
        del pool.running[job.key]
        pool.ended.append(job)
        pool.lacking = ""  # look again at once
        if code == 0 and state_of(job) == DONE:
            sentences.append(f"{job.title}: done")
            continue
        if not failure(job):
            fail(job, _why(job, code))
        problem = f"{job.title}: failed ({failure(job)}); see {job.log}"
        pool.problems.append(problem)
        sentences.append(problem)
    return sentences


def _why(job: Job, code: int) -> str:
    """Why a process ended that recorded no reason."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code == 128 + signal.SIGTERM:
        return "stopped by a signal; what it had done is saved"
    lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else f"exit status {code}"


# stopping ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """Collect signals in a list instead of dying of them."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    # what the shell ignores for this process (nohup, a background job) stays ignored
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(pool: Pool, asked: list[int], show: Callable[[Pool, str], None]) -> None:
    """Let running jobs save and end; a second signal kills them."""
    if not pool.running:
        return
    show(pool, f"stopping: {len(pool.running)} running jobs save their state; once more (Ctrl-C) kills them")
    _send(pool, signal.SIGTERM)
    patience, killed = len(asked) + 1, False
    while pool.running:
        if len(asked) >= patience and not killed:
            _send(pool, signal.SIGKILL)
            killed = True
        pool.running = {key: each for key, each in pool.running.items() if each[1].poll() is None}
        time.sleep(PAUSE / 4)


def _send(pool: Pool, number: int) -> None:
    for _, process, _ in pool.running.values():
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGTERM:
                process.send_signal(number)
                continue
            members = family(process.pid)  # several processes of a job have sessions of their own
            os.killpg(process.pid, number)
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, number)
