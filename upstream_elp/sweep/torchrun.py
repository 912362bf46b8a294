"""A job of several processes, which torchrun starts from the job's own process."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from upstream_elp.base.errors import DivergedError, ElpError
from upstream_elp.sweep.jobs import Job
from upstream_elp.sweep.parent import PARENT
from upstream_elp.sweep.rank import REPORTS

PATIENCE = 110
"""Seconds that torchrun gives the ranks to save and end; SLURM signals a job 120 seconds before its time limit."""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that torchrun handles."""


def train(job: Job, argv: Sequence[str]) -> dict[str, int]:
    """Train with ``job.processes`` ranks on this machine.

    A signal to this process reaches all ranks; when they have saved, this process ends with its exit status.

    Args:
        job: the job.
        argv: flags of ``elp run``.

    Returns:
        The memory that the ranks took, as :func:`upstream_elp.sweep.memory.peaks` describes it.

    Raises:
        DivergedError: loss or gradients are not finite any more.
        ElpError: another failure of a rank.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for path in job.path.glob(REPORTS):
        path.unlink()
    os.environ[PARENT] = str(os.getpid())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(PATIENCE))  # older versions wait for 30 seconds
    before = {number: signal.getsignal(number) for number in HANDLED}
    together = ["--standalone", "--nproc_per_node", str(job.processes)]
    try:
        run.main([*together, "-m", "upstream_elp.sweep.rank", job.folder, *argv])
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        first = error.get_first_failure()[1]
        if first.exitcode == 128 + signal.SIGTERM:
            sys.exit(first.exitcode)
        raise _failure(job, first.exitcode) from None
    finally:
        os.environ.pop(PARENT, None)
        for number, handler in before.items():  # torchrun leaves its own
            signal.signal(number, handler)
    found = [report["memory"] for report in _reports(job)]
    return {"host": sum(each["host"] for each in found), "gpu": max(each["gpu"] for each in found)}


def _reports(job: Job) -> list[Mapping[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(job.path.glob(REPORTS))]


def _failure(job: Job, status: int) -> ElpError:
    """Why the first rank failed that did not only notice another one's failure."""
    for report in _reports(job):
        if report.get("why") and not report["elsewhere"]:
            return (DivergedError if report["diverged"] else ElpError)(report["why"])
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    return ElpError(f"one of {job.processes} processes {how}; see {job.log}")
