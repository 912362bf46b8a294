"""Requests to stop: a signal is noted, and the loop ends after the step that is under way."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

import torch

from upstream_elp.base.errors import ElpError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What batch systems and people send; SLURM's ``--signal=USR1@60`` comes ahead of the time limit."""
IMPATIENCE = 2.0
"""Seconds after which another Ctrl-C is a person's, and no second copy of the first."""


class Stopped(Exception):
    """An evaluation was broken off, since the run has been asked to stop."""


class EndedElsewhere(ElpError):
    """Another rank has met an error, so that this one ends with it."""


class StopRequest:
    """Whether to stop, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler; Ctrl-C again ends the process at once.

        Any other signal may come twice without a meaning: SLURM sends it to every process of a job, and torchrun then
        hands its own on to the ranks.
        """
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > IMPATIENCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def name(self) -> str:
        """Of the signal that asked."""
        return signal.Signals(self.signal).name if self.signal is not None else "another rank's signal"

    def agreed(self, device: torch.device, *, failed: bool = False) -> bool:
        """Whether this rank or another has been asked; every rank must call it at the same step.

        Args:
            device: of the training.
            failed: whether this rank has met an error.

        Raises:
            EndedElsewhere: if another rank has met one, and this one has not.
        """
        if not torch.distributed.is_initialized():
            return self.signal is not None
        flags = torch.tensor([float(self.signal is not None), float(failed)], device=device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        asked, ended = flags.tolist()
        if ended and not failed:
            raise EndedElsewhere("another rank has ended, and this one with it; what that one printed says why")
        return bool(asked)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold signals back while the block runs; processes that it forks never get them, not even as they start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
