"""Carry out a plan: the search if there is one, then the runs that are tested."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.sweep import live, slurm
from upstream_elp.sweep.estimate import Times
from upstream_elp.sweep.jobs import DONE, RUNNING, Job, state_of
from upstream_elp.sweep.launch import Slot, Stopped, run_jobs
from upstream_elp.sweep.room import Room
from upstream_elp.sweep.search import write_grid
from upstream_elp.sweep.work import Planner, Work, write_manifest


def carry_out(planner: Planner, slots: Sequence[Slot]) -> list[str]:
    """Run everything that has not ended on this machine.

    Args:
        planner: the checked plan.
        slots: the places for processes.

    Returns:
        One sentence per failed job.

    Raises:
        Stopped: a signal ended it.
    """
    problems: list[str] = []
    work = planner.work()
    try:
        write_manifest(work)
        tried: set[str] = set()
        while waiting := [job for job in work.search if state_of(job) != DONE and job.key not in tried]:
            problems += _round(work.search, work, slots, tried)
            tried |= {job.key for job in waiting}  # what failed is tried again by the next call
            work = planner.work()  # with what the search has proposed or chosen in the meantime
            write_manifest(work)
        if work.final:
            problems += _round(work.final, work, slots, set())
    finally:
        record(planner.work())
    return problems


def record(work: Work) -> None:
    """Write what is known of a sweep into its folder: its jobs, and the grid of its search."""
    write_manifest(work)
    if work.searches:
        write_grid(work.out, work.searches)


def submit(planner: Planner, *, options: str, limit: int | None, device: str | None) -> str | None:
    """Write, and if possible submit, one array job of everything that can run now and neither has ended nor runs.

    Args:
        planner: the checked plan.
        options: options of sbatch.
        limit: how many jobs run at a time; None for no limit.
        device: torch device; None for CUDA if there is any.

    Returns:
        What to print; None if nothing is left to submit.

    Raises:
        ElpError: invalid options, or a script that sbatch refuses.
    """
    work = planner.work()
    slurm.parse_options(options)
    record(work)
    first = [job for job in work.search if state_of(job) != DONE]
    waiting = [job for job in first or work.final if state_of(job) not in (DONE, RUNNING)]
    more = " When they have ended, call the command again: the search then goes on." if first else ""
    if not waiting:
        return None
    script = slurm.write_script(work.out, waiting, name=planner.plan.name, options=options, limit=limit, device=device)
    said = slurm.submit(script)
    count = counted(len(waiting), "job")
    if said is None:
        return f"{count} in {script}; this machine has no sbatch, so submit it where there is: sbatch {script}.{more}"
    return f"{said}: {count} in {script}; `elp sweep PLAN --status` shows how far they are.{more}"


def _round(jobs: Sequence[Job], work: Work, slots: Sequence[Slot], tried: Collection[str]) -> list[str]:
    times = Times(work.jobs)
    # the longest first; where no time is known, method by method, as later ones use features that earlier ones keep
    rest = [job for job in jobs if job.key not in tried]
    methods = list(dict.fromkeys(job.method for job in work.jobs))
    order = sorted(rest, key=lambda job: (-(times.of(job) or 0.0), methods.index(job.method)))
    with live.Display(jobs, work.jobs, slots=len(slots)) as show:
        return run_jobs(order, slots, show=show, room=Room(work.jobs))


def how_to_go_on(error: Stopped, out: Path) -> str:
    """What to say when a signal has ended the sweep."""
    return f"stopped by {error}; finished jobs are kept in {out}, and the same command goes on"


def failed(problems: Sequence[str], jobs: int) -> ElpError:
    """The error for failed jobs."""
    return ElpError(
        f"{len(problems)} of {counted(jobs, 'job')} failed (the others are kept; the same command tries again): "
        f"{'; '.join(problems)}"
    )
