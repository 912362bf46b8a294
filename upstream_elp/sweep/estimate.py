"""How long jobs will take, from those of the same kind that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from upstream_elp.sweep.jobs import FINAL, Job, ended

Kind = tuple[object, ...]


def kind(job: Job) -> Kind:
    """What decides how long a job takes: not its seed, fold or learning rates."""
    adapter = {key: str(value) for key, value in (job.adapter or {}).items()}
    return job.task, job.method, job.upstream, job.place, job.steps, tuple(sorted(adapter.items()))


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
        train, test = self.train.get(kind(job)), self.test.get(kind(job))
        if not train or (job.stage == FINAL and not test):
            return None
        return fmean(train) + (fmean(test) if job.stage == FINAL else 0.0)

    def left(self, jobs: Sequence[Job], done: dict[str, float], slots: int) -> tuple[float, int]:
        """Seconds until unfinished jobs have ended, and how many are of an unknown kind and not counted.

        Args:
            jobs: jobs that have not ended.
            done: key of a job -> share of it that is done, from 0 to 1.
            slots: how many run at a time.
        """
        known = [(job, seconds) for job in jobs if (seconds := self.of(job)) is not None]
        total = sum(seconds * (1 - done.get(job.key, 0.0)) for job, seconds in known)
        return total / max(1, min(slots, len(known))), len(jobs) - len(known)
