"""Synthesise a plan in parallel: fixed shards, each in a fresh process, independent of the number of processes."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from upstream_elp.base.errors import ElpError
from upstream_elp.mini.effects import Conditions
from upstream_elp.mini.utterances import Utterance

KEPT_BYTES = 2**25  # of memory that a worker keeps for its next arrays; glibc allows no more
SHARD_SIZE = 120  # utterances; the same on every machine, so that a corpus is reproducible


class ShardPool:
    """A context in which up to `jobs` worker processes speak shards; leaving it with an error terminates them."""

    def __init__(self, jobs: int, *, progress: Callable[[], None]) -> None:
        self._executor = ThreadPoolExecutor(max_workers=jobs)
        self._progress = progress
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._closed = False

    def __enter__(self) -> "ShardPool":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._closed = True
            for process in self._running if error is not None else ():
                process.terminate()
        self._executor.shutdown(cancel_futures=True)

    def submit(self, folder: Path, utterances: Sequence[Utterance], *, conditions: Conditions) -> list[Future]:
        """Queue a corpus; each future returns the numbers of samples of its shard, in order."""
        shards = [utterances[start : start + SHARD_SIZE] for start in range(0, len(utterances), SHARD_SIZE)]
        return [self._executor.submit(self._run, _job(folder, shard, conditions)) for shard in shards]

    def _run(self, job: dict[str, Any]) -> list[int]:
        with tempfile.TemporaryFile("w+") as orders, tempfile.TemporaryFile("w+") as errors:
            json.dump(job, orders)
            orders.seek(0)
            with self._start(stdin=orders, stderr=errors) as process:
                samples = []
                for line in process.stdout:
                    samples.append(int(line))
                    self._progress()
            with self._lock:
                self._running.discard(process)
            if process.returncode or len(samples) != len(job["utterances"]):
                errors.seek(0)
                last = (errors.read().strip() or f"the worker ended with status {process.returncode}").splitlines()[-1]
                raise ElpError(f"speech synthesis failed: {last}")
        return samples

    def _start(self, **streams: TextIO) -> subprocess.Popen:
        command = [sys.executable, "-m", "upstream_elp.mini.worker"]
        with self._lock:
            if self._closed:
                raise ElpError("speech synthesis was interrupted")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment(), text=True, **streams)
            self._running.add(process)
        return process


def _job(folder: Path, utterances: Sequence[Utterance], conditions: Conditions) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "conditions": asdict(conditions),
        "utterances": [asdict(utterance) for utterance in utterances],
    }


def _environment() -> dict[str, str]:
    """Return an environment for workers: one thread each, and this package, even if it is not installed.

    glibc otherwise returns every freed array to the system, and clearing its pages again takes a tenth of the time.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    memory = {"MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES), "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES)}
    return {**os.environ, "PYTHONPATH": path, **threads, **memory}
