"""A search on dev: equally many settings of every method, and the best by the mean over seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from downstream_heads import registry
from upstream_elp.base.files import write_json, write_text
from upstream_elp.sweep.jobs import DONE, SEARCH, Job, dev_value, state_of
from upstream_elp.sweep.names import written

COLUMNS = ("task", "method", "backbone", "fold", "setting", "metric", "mean", "seeds", "values", "chosen")


@dataclass(frozen=True)
class Trial:
    """One setting of one cell.

    Args:
        jobs: its runs, one per seed of the search.
        values: the main metric on dev of each run, in their order; None if a run has none or it is not finite.
        complete: whether all runs have ended.
        planned: how many settings its cell is to have; None if that is not known.
    """

    jobs: Sequence[Job]
    values: tuple[float | None, ...]
    complete: bool
    planned: int | None = None

    @property
    def first(self) -> Job:
        """The first run, for what all share."""
        return self.jobs[0]

    @property
    def setting(self) -> str:
        """The setting in words."""
        return written({**self.first.varied, **self.first.searched})

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None if a run is missing or diverged."""
        return None if None in self.values or not self.values else fmean(self.values)


def trial(jobs: Sequence[Job], *, planned: int | None = None) -> Trial:
    """Read the runs of one setting."""
    complete = all(state_of(job) == DONE for job in jobs)
    return Trial(jobs, tuple(dev_value(job) if state_of(job) == DONE else None for job in jobs), complete, planned)


def searches(jobs: Iterable[Job], *, planned: int | None = None) -> list[list[Trial]]:
    """The settings of each cell that is searched, from the runs of a sweep."""
    cells: dict[tuple[Any, ...], dict[str, list[Job]]] = {}
    for job in jobs:
        if job.stage == SEARCH:
            key = (job.task, job.method, job.backbone, job.fold, written(job.varied))
            cells.setdefault(key, {}).setdefault(json.dumps(job.searched, sort_keys=True), []).append(job)
    return [[trial(runs, planned=planned) for runs in settings.values()] for settings in cells.values()]


def best(trials: Sequence[Trial]) -> Trial | None:
    """The setting with the best mean on dev, the first of equal ones.

    None if a run of the search has not ended, if settings are yet to be proposed, or if all settings diverged.
    """
    usable = [each for each in trials if each.mean is not None]
    proposed = len(trials) >= (trials[0].planned or 0)
    if not usable or not proposed or not all(each.complete for each in trials):
        return None
    upwards = registry.described(trials[0].first.task).higher_is_better
    return (max if upwards else min)(usable, key=lambda each: each.mean)


def write_grid(out: Path, searches: Sequence[Sequence[Trial]]) -> None:
    """Write ``search.csv`` and ``search.json``: every setting of every cell, and which one was chosen."""
    rows = grid(searches)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(flat, rows))
    write_text(out / "search.csv", text.getvalue())
    write_json(out / "search.json", rows)


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row of the grid for CSV, with the values of the seeds in one text."""
    return {**{name: row[name] for name in COLUMNS}, "values": " ".join(map(str, row["values"]))}


def grid(searches: Sequence[Sequence[Trial]]) -> list[dict[str, Any]]:
    """One row per setting with plain values."""
    return [row for trials in searches for row in _rows(trials)]


def _rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    chosen = best(trials)
    return [
        {
            "task": each.first.task,
            "method": each.first.method,
            "backbone": each.first.backbone,
            "fold": each.first.fold,
            "setting": each.setting,
            "metric": f"dev {registry.described(each.first.task).main_metric}",
            "mean": each.mean,
            "seeds": [job.seed for job in each.jobs],
            "values": list(each.values),
            "chosen": each is chosen,
            "searched": dict(each.first.searched),
            "varied": dict(each.first.varied),
            "folders": [job.folder for job in each.jobs],
        }
        for each in trials
    ]
