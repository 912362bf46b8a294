"""Whether a job fits into memory next to those that run, judged by what jobs like it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream_elp.sweep import memory
from upstream_elp.sweep.estimate import kind
from upstream_elp.sweep.jobs import Job, ended
from upstream_elp.sweep.names import written

GIB = 2**30
PROCESS = GIB
"""Main memory that a job is expected to take without its backbone if no similar one has ended."""
COPIES = 4
"""How often it is then expected to keep the backbone's file in memory: values, gradients and Adam's two averages."""
UNKNOWN = 4 * GIB
"""What it is expected to take if the backbone is not on this machine yet."""
SHARE = 0.5
"""The share of a GPU that it is expected to take then."""
EVERY = 5.0
"""Seconds between two looks at the memory while jobs wait for it."""


@dataclass(frozen=True)
class Readers:
    """How to ask for memory.

    Args:
        host: bytes of free main memory; None if unknown.
        used: process id -> bytes that the process uses, with all that it has started.
        gpu: free and total bytes of the GPU that a process with some variables sees; None if unknown.
    """

    host: Callable[[], int | None] = memory.free_host
    used: Callable[[], Mapping[int, int]] = memory.used
    gpu: Callable[[Mapping[str, str]], tuple[int, int] | None] = memory.gpu


@dataclass(frozen=True)
class Running:
    """A running job: its process id, and its GPUs (None on a CPU)."""

    job: Job
    pid: int
    gpu: str | None


class Room:
    """The memory of this machine.

    Args:
        known: the jobs of the sweep; those that have ended say what such jobs take.
        readers: how to ask for memory.
    """

    def __init__(self, known: Iterable[Job], readers: Readers | None = None) -> None:
        self.readers = readers or Readers()
        self.known = list(known)
        self.peaks: dict[str, dict[Any, int]] = {"host": {}, "gpu": {}}
        self.counted: set[str] = set()
        self.looked = 0.0
        self.guessed: dict[Any, int] = {}
        self._read: dict[Any, Any] = {}

    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self.looked > EVERY

    def update(self) -> None:
        """Look at the memory, and take note of jobs that have ended since the last call."""
        self.looked = time.monotonic()
        self._read = {}
        for job in self.known:
            facts = None if job.key in self.counted else ended(job)
            if facts is None:
                continue
            self.counted.add(job.key)
            for what, peaks in self.peaks.items():
                size = (facts.get("memory") or {}).get(what) or 0
                for level in _levels(job) if size else ():
                    peaks[level] = max(size, peaks.get(level, 0))

    def lacking(self, job: Job, gpu: str | None, environment: Mapping[str, str], running: Sequence[Running]) -> str:
        """Why a job must not start yet; empty if it may, as it always may when no other runs.

        Args:
            job: the job.
            gpu: its GPUs, as in ``CUDA_VISIBLE_DEVICES``; None on a CPU.
            environment: the variables of its process.
            running: the jobs that run.
        """
        if not running:
            return ""
        sentence = self._on_host(job, running)
        there = [each for each in running if gpu is not None and each.gpu == gpu]
        return sentence or (self._on_gpu(job, gpu, environment, there) if there else "")

    def _on_host(self, job: Job, running: Sequence[Running]) -> str:
        free = self._once("host", self.readers.host)
        if free is None:
            return ""
        now = self._once("used", self.readers.used)
        sizes = {each.job.key: now.get(each.pid, 0) for each in running}
        alike = [sizes[each.job.key] for each in running if _levels(each.job)[0] == _levels(job)[0]]
        need = max([self._on_host_expected(job), *alike])
        growing = sum(max(0, self._on_host_expected(each.job) - sizes[each.job.key]) for each in running)
        return _sentence(job, need, free - growing, "memory")

    def _on_gpu(self, job: Job, gpu: str, environment: Mapping[str, str], there: Sequence[Running]) -> str:
        found = self._once(gpu, lambda: self.readers.gpu(environment))
        if found is None:
            return ""
        free, total = found
        need, *others = (
            self._expected("gpu", each) or int(SHARE * total) for each in (job, *(each.job for each in there))
        )
        return _sentence(job, need, min(free, total - sum(others)), f"memory of GPU {gpu}")

    def _on_host_expected(self, job: Job) -> int:
        return self._expected("host", job) or self.guessed.setdefault((job.backbone, job.place), guess(job))

    def _once(self, what: str, ask: Callable[[], Any]) -> Any:
        """What a reader says, which is asked once per :meth:`update`."""
        if what not in self._read:
            self._read[what] = ask()
        return self._read[what]

    def _expected(self, what: str, job: Job) -> int | None:
        """The peak of the most similar jobs that have ended; None without any."""
        return next((self.peaks[what][level] for level in _levels(job) if level in self.peaks[what]), None)


def guess(job: Job) -> int:
    """The main memory that a job is expected to take if nothing is known of similar ones."""
    place = Path(job.place) if job.place else None
    if job.backbone is not None and (place is None or not place.exists()):
        return UNKNOWN
    files = [] if place is None else [place] if place.is_file() else place.rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    return (PROCESS + COPIES * size) * job.processes


def _levels(job: Job) -> list[Any]:
    """What similar jobs have in common, from the most similar ones on."""
    return [(kind(job), written(job.varied)), kind(job), (job.task, job.place), (job.place,)]


def _sentence(job: Job, need: int, free: int, what: str) -> str:
    if free >= need:
        return ""
    return f"{job.title} waits for {what}: it takes about {need / GIB:.1f} GiB, and {max(0, free) / GIB:.1f} are left"
