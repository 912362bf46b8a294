"""Requests to stop: a signal is noted, and the loop ends after the step that is under way."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import torch

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What batch systems and people send; SLURM's ``--signal=USR1@60`` comes ahead of the time limit."""


class StopRequest:
    """Whether to stop, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler; a second signal ends the process at once."""
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number

    @property
    def name(self) -> str:
        """Of the signal that asked."""
        return signal.Signals(self.signal).name if self.signal is not None else "another rank's signal"

    def agreed(self, device: torch.device) -> bool:
        """Whether this rank or another has been asked; every rank must call it at the same step."""
        if not torch.distributed.is_initialized():
            return self.signal is not None
        asked = torch.tensor(float(self.signal is not None), device=device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked)


@contextlib.contextmanager
def noted() -> Iterator[StopRequest]:
    """Take signals as requests while the block runs."""
    request = StopRequest()
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
