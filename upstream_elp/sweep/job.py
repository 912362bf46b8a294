"""One run in its own process: train or resume, then evaluate the best checkpoint on test.

Called as ``python -m upstream_elp.sweep.job JOB.json [DEVICE]``. The exit status is 0 if the run has ended, 143 if a
signal stopped it after saving, and anything else if it failed.
"""

from __future__ import annotations

import os
import sys
import time

import click

from upstream_elp.base.errors import DivergedError, ElpError, caused_by, one_line
from upstream_elp.sweep import jobs, locks, memory
from upstream_elp.sweep.parent import end_with_parent


def main(spec: str, device: str | None = None) -> None:
    """Run the job described in the file ``spec``; a job that has ended is not run again.

    Args:
        spec: a ``job.json``.
        device: torch device; None for CUDA if there is any.

    Raises:
        ElpError: whatever the user can fix; it is recorded in the run's folder.
    """
    job = jobs.read_job(spec)
    with locks.held(job.path):
        if jobs.ended(job) is not None:
            return
        jobs.forget_failure(job)
        click.echo(f"elp: job {job.title}, started {time.strftime('%Y-%m-%d %H:%M:%S')}")
        try:
            _carry_out(job, ["--device", device] if device else [])
        except Exception as error:
            jobs.fail(job, one_line(error))
            raise


def _carry_out(job: jobs.Job, device: list[str]) -> None:
    from upstream_elp.experiment.checkpoint import find_checkpoint
    from upstream_elp.experiment.facts import RESULTS, read_results
    from upstream_elp.launch.start import adopt_main, run

    adopt_main()
    jobs.clear(job)
    before = time.monotonic()
    try:
        taken = _train(job, device)
    except ElpError as error:
        if job.stage != jobs.SEARCH or not caused_by(error, DivergedError):
            raise
        # the answer to what the search has asked
        click.echo(f"elp: {error}; the search counts this setting as the worst")
        jobs.end(job, train_seconds=time.monotonic() - before, test_seconds=0.0, diverged=str(error))
        return
    before = time.monotonic()
    if job.stage == jobs.FINAL and jobs.tested(job) is None:
        run([*job.test_argv(find_checkpoint(job.path)), *device])
        if jobs.tested(job) is None:
            raise ElpError(f"{job.path / RESULTS} has no evaluation of the test set; start the sweep again")
    seconds = float(read_results(job.path / RESULTS)["seconds"] or 0)
    own = memory.peaks()
    peaks = {kind: max(taken.get(kind, 0), own[kind]) for kind in own}
    jobs.end(job, train_seconds=seconds, test_seconds=time.monotonic() - before, memory=peaks)


def _train(job: jobs.Job, device: list[str]) -> dict[str, int]:
    """Train in this process, or in several; returns the memory that the others took."""
    if job.processes > 1:
        from upstream_elp.sweep import torchrun

        return torchrun.train(job, [*job.train_argv(), *device])
    from upstream_elp.launch.start import run

    run([*job.train_argv(), *device])
    return {}


if __name__ == "__main__":
    end_with_parent()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        main(*sys.argv[1:3])
    except ElpError as error:
        click.echo(f"elp: error: {error}", err=True)
        sys.exit(2)
