"""Shared code of the benchmarks: a clock that other programs disturb little, worker processes, and a small head."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor, nn

HEAD_DIM, CLASSES = 256, 4
WARMUP = {"cpu": 1, "cuda": 5}
"""Untimed steps before the others, in which a GPU chooses kernels and reserves memory."""


def run_worker(script: str, row: str, checkpoint: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """Call ``script --worker row`` in a separate process.

    Returns:
        The JSON object that it prints last.

    Raises:
        click.ClickException: with the last line of its errors.
    """
    flags = [part for key, value in setting.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, script, "--worker", row, "--checkpoint", str(checkpoint), *flags]
    env = dict(os.environ, OMP_NUM_THREADS=str(setting["threads"]), PYTHONWARNINGS="ignore")
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise click.ClickException(f"{row}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def stock_expert(family: str, checkpoint: Path) -> nn.Module:
    """The plain expert of a backbone: S3PRL's own, or ours for a folder in Hugging Face's format."""
    import upstream_elp
    from upstream_elp.backbones.families import FAMILIES
    from upstream_elp.backbones.huggingface import HuggingFaceExpert

    upstream_elp.register()
    from s3prl import hub

    if checkpoint.is_dir():
        return HuggingFaceExpert(checkpoint)
    return getattr(hub, FAMILIES[family].hub_local)(ckpt=str(checkpoint))


def pooling_head(upstream: nn.Module, device: str) -> tuple[nn.Module, nn.Module]:
    """S3PRL's featurizer for an upstream, and a head for the mean of its features over time."""
    from s3prl.upstream.interfaces import Featurizer
    from torch import nn

    featurizer = Featurizer(upstream, upstream_device=device).to(device)
    head = nn.Sequential(nn.Linear(featurizer.output_dim, HEAD_DIM), nn.Linear(HEAD_DIM, CLASSES))
    return featurizer, head.to(device)


def pooled_loss(featurizer: nn.Module, head: nn.Module, waves: list[Tensor], states: dict[str, Any]) -> Tensor:
    """Cross entropy of the pooled features against fixed labels."""
    import torch

    labels = torch.arange(len(waves), device=waves[0].device) % CLASSES
    features = torch.stack([f.mean(dim=0) for f in featurizer(waves, states)])  # (batch, dim)
    return torch.nn.functional.cross_entropy(head(features), labels)


def timed(step: Callable[[], None], clock: Clock, *, steps: int) -> float:
    """Return the median seconds of a step, after some untimed ones."""
    for _ in range(WARMUP["cuda" if clock.cuda else "cpu"]):
        step()
    times = []
    for _ in range(steps):
        started = clock.now()
        step()
        times.append(clock.now() - started)
    return statistics.median(times)


def take_turns(steps: dict[str, Callable[[], None]], clock: Clock, *, repeats: int, warmup: int) -> dict[str, list]:
    """Time several steps in turns, so that a machine that becomes slower or faster does so for all of them.

    Args:
        steps: name -> step to time.
        clock: reads the time.
        repeats: timed calls of each step; the order changes from round to round.
        warmup: untimed rounds before these.

    Returns:
        Name -> seconds of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(warmup + repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = clock.now()
            steps[name]()
            if turn >= warmup:
                times[name].append(clock.now() - started)
    return times


class Clock:
    """Processor time and resident memory on the CPU, synchronised time and allocated memory on a GPU."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.synchronize()
            self.start = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        else:
            _give_freed_memory_back()
            Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak
            self.start = self._status("VmRSS")

    def now(self) -> float:
        """Seconds."""
        if not self.cuda:
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def peak(self) -> float:
        """The peak in gigabytes (1e9 bytes) above the start."""
        if self.cuda:
            import torch

            return (torch.cuda.max_memory_allocated() - self.start) / 1e9
        return (self._status("VmHWM") - self.start) / 1e9

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def _give_freed_memory_back() -> None:
    """Return free memory to the system, as memory left over from loading would hide part of a step's need."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
