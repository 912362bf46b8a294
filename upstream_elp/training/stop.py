"""Requests to stop: a signal is noted, and the loop ends after the current step."""

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
"""Signals from batch systems and people; SLURM's ``--signal=USR1@60`` arrives before the time limit."""
IMPATIENCE = 2.0
"""Seconds after which another Ctrl-C is a person's, not a copy of the first."""


class Stopped(Exception):
    """An evaluation was interrupted, because the run has been asked to stop."""


class EndedElsewhere(ElpError):
    """Another rank has failed, so this one ends too."""

    def __init__(self) -> None:
        super().__init__("another rank has failed, so this one ends too; the other rank's output says why")


class StopRequest:
    """Whether to stop, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second Ctrl-C ends the process at once.

        Any other signal may arrive twice: SLURM sends it to every process of a job, and torchrun then passes its own
        copy on to the ranks.
        """
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > IMPATIENCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.signal).name if self.signal is not None else "another rank's signal"

    def agreed(self, device: torch.device, *, failed: bool = False) -> bool:
        """Whether any rank has been asked to stop; every rank must call this at the same step.

        Args:
            device: the device of the training.
            failed: whether this rank has failed.

        Raises:
            EndedElsewhere: if another rank has failed and this one has not.
        """
        if not torch.distributed.is_initialized():
            return self.signal is not None
        flags = torch.tensor([float(self.signal is not None), float(failed)], device=device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        asked, ended = flags.tolist()
        if ended and not failed:
            raise EndedElsewhere
        return bool(asked)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block signals while the block runs; processes that it forks never get them, not even while they start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def noted() -> Iterator[StopRequest]:
    """Treat signals as requests while the block runs."""
    request = StopRequest()
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
