"""How long jobs will take, from those of the same kind that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from statistics import fmean

from upstream_elp.base.errors import counted
from upstream_elp.experiment.report import duration
from upstream_elp.sweep.jobs import FINAL, Job, ended

Kind = tuple[object, ...]


def kind(job: Job) -> Kind:
    """What decides how long a job takes: not its seed, fold or learning rates."""
    adapter = {key: str(value) for key, value in (job.adapter or {}).items()}
    return job.task, job.method, job.upstream, job.place, job.length, tuple(sorted(adapter.items()))


class Times:
    """Seconds of the jobs that have ended, by their kind."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.train: dict[Kind, list[float]] = defaultdict(list)
        self.test: dict[Kind, list[float]] = defaultdict(list)
        for job in jobs:
            if (facts := ended(job)) is not None:
                self.train[kind(job)].append(facts["train_seconds"])
                if job.stage == FINAL:
                    self.test[kind(job)].append(facts["test_seconds"])

    def of(self, job: Job) -> float | None:
        """Seconds that a job takes in all, without the imports at its start; None if none of its kind has ended."""
        return self._mean([kind(job)], job)

    def guess(self, job: Job) -> float | None:
        """The same from other kinds: those of its task, or else all; None if no job has ended."""
        return self._mean([each for each in self.train if each[0] == job.task], job) or self._mean(self.train, job)

    def _mean(self, kinds: Collection[Kind], job: Job) -> float | None:
        train, test = ([t for each in kinds for t in known.get(each, ())] for known in (self.train, self.test))
        if not train or (job.stage == FINAL and not test):
            return None
        return fmean(train) + (fmean(test) if job.stage == FINAL else 0.0)

    def left(self, jobs: Sequence[Job], done: dict[str, float], slots: int) -> tuple[float | None, int]:
        """Seconds until unfinished jobs have ended, and for how many these are guessed from other kinds of jobs.

        The seconds are None if too few have ended to guess.

        Args:
            jobs: jobs that have not ended.
            done: key of a job -> share of it that is done, from 0 to 1.
            slots: how many run at a time.
        """
        total, guessed = 0.0, 0
        for job in jobs:
            seconds = self.of(job)
            if seconds is None:
                guessed, seconds = guessed + 1, self.guess(job)
            if seconds is None:
                return None, guessed
            total += seconds * (1 - done.get(job.key, 0.0))
        return total / max(1, min(slots, len(jobs))), guessed


def time_left(seconds: float | None, guessed: int, *, what: str = "") -> str:
    """``about 5 min left``, and for how many jobs this is a guess."""
    if seconds is None:
        return "time left unknown, as no job like these has ended"
    text = f"about {duration(seconds)}{what} left"
    return f"{text}, of which {counted(guessed, 'job')} by the times of others" if guessed else text
