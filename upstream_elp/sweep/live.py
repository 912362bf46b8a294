"""What the launcher shows: a live table on a terminal, and otherwise a line per event."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from upstream_elp.sweep.estimate import Times, time_left
from upstream_elp.sweep.jobs import DONE, Job, progress, share, state_of
from upstream_elp.sweep.launch import Pool

EVERY = 1.0
"""Seconds between two drawings."""


class Display:
    """Shows the pool of :func:`upstream_elp.sweep.launch.run_jobs`.

    Args:
        jobs: all jobs of this round; those that have already ended count as done.
        known: jobs from whose times the time left is estimated.
        slots: how many run at a time.
    """

    def __init__(self, jobs: Sequence[Job], known: Sequence[Job], *, slots: int) -> None:
        self.jobs, self.known, self.slots = list(jobs), list(known), slots
        self.done = sum(state_of(job) == DONE for job in jobs)
        self.before = self.done
        self.times = Times(self.known)
        self.drawn = 0.0
        console = Console(stderr=True)
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, pool: Pool, sentence: str) -> None:
        """Show a sentence, if there is one, and the state of the pool from time to time."""
        if sentence:
            self.done = self.before + len(pool.ended) - len(pool.problems)
            self.times = Times(self.known)
            text = f"[{self.done}/{len(self.jobs)}] {sentence}"
            if self.live is None:
                left = self.left(pool)
                click.echo(f"elp: {text}" + (f" ({left})" if left else ""), err=True)
                sys.stderr.flush()
            else:
                self.live.console.print(text, markup=False, highlight=False)
        if self.live is not None and (sentence or time.monotonic() - self.drawn > EVERY):
            self.live.update(self.table(pool), refresh=True)
            self.drawn = time.monotonic()

    def left(self, pool: Pool) -> str:
        """The time left, or nothing if no job is."""
        running = [job for job, _, _ in pool.running.values()]
        shares = {job.key: share(job) for job in running}
        jobs = [*running, *pool.waiting]
        return time_left(*self.times.left(jobs, shares, self.slots)) if jobs else ""

    def table(self, pool: Pool) -> Group:
        """The running jobs with their steps, below the counts."""
        failed = f", {len(pool.problems)} failed" if pool.problems else ""
        title = f"{self.done} of {len(self.jobs)} jobs done{failed}, {len(pool.waiting)} waiting; {self.left(pool)}"
        title += f"\n{pool.lacking}" if pool.lacking else ""
        table = Table(box=None)
        for column, justify in (("running", "left"), ("step", "right"), ("of", "right"), ("GPU", "left")):
            table.add_column(column, justify=justify)
        for job, _, slot in pool.running.values():
            table.add_row(job.title, f"{progress(job):,}", job.length, slot.gpu or "-")
        return Group(Text(title), table)
