"""The outcome of each cell of a sweep: its value on test with an interval, and how it compares with the others.

A cell is one method on one task with one backbone and setting; its runs differ in seed and fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from downstream_heads import registry
from downstream_heads.contract import Task
from upstream_elp.experiment.facts import RESULTS, read_results
from upstream_elp.experiment.logs import read_logs
from upstream_elp.statistics import Comparison, Interval, Items, compare_all, interval, join_folds, load_items
from upstream_elp.sweep.jobs import DONE, FINAL, Job, state_of, tested
from upstream_elp.sweep.names import written

LEVEL = 0.05
"""The p below which two methods count as different, after Holm's correction for all comparisons of a task."""


@dataclass(frozen=True)
class Outcome:
    """One cell.

    Args:
        jobs: its runs.
        results: the ``results.json`` of each.
        items: the results of the test set, one for each seed.
        value: the main metric with its interval.
        also: the task's second metric, if it has one and the items have it.
        chance: the main metric of a trivial answer, if known.
        trained: parameters trained in the upstream.
        head: parameters trained in the head.
        best: the comparison with the best cell of the task; None for that cell itself.
        baseline: the comparison with the baseline's cell; None for that cell itself, or without a baseline.
    """

    jobs: Sequence[Job]
    results: Sequence[Mapping[str, Any]]
    items: Sequence[Items]
    value: Interval
    also: Interval | None
    chance: float | None
    trained: int
    head: int
    best: Comparison | None = None
    baseline: Comparison | None = None

    @property
    def first(self) -> Job:
        """The first run, for what all share."""
        return self.jobs[0]

    @property
    def task(self) -> Task:
        """The task."""
        return registry.find(self.first.task)

    @property
    def name(self) -> str:
        """The method with what distinguishes the cell from others of the same method."""
        return " ".join(part for part in (self.first.method, written(self.first.varied)) if part)

    @property
    def tied(self) -> bool:
        """Whether the cell is the best one, or cannot be told apart from it."""
        p = None if self.best is None else self.best.p_holm
        return self.best is None or (p is not None and p >= LEVEL)

    @property
    def seconds(self) -> float:
        """Mean seconds of training per run."""
        return sum(run["seconds"] or 0.0 for run in self.results) / len(self.results)

    @property
    def layer_weights(self) -> list[dict[str, Any]]:
        """Names of the layers and their softmax weights, means over the runs; empty if the head sees one state."""
        runs = [run["layer_weights"] or [] for run in self.results]
        if not runs[0] or any(len(run) != len(runs[0]) for run in runs):
            return []
        layers = zip(*runs, strict=True)
        return [
            {"layer": each[0]["layer"], "weight": sum(one["weight"] for one in each) / len(each)} for each in layers
        ]

    def curves(self) -> list[dict[str, Any]]:
        """Points of the train loss and of the dev metric (the second one, if there are two) of each run."""
        metric = self.task.also or self.task.main_metric
        return [
            {"seed": job.seed, "what": what, "step": step, "value": value}
            for job in self.jobs
            for what, points in _lines(job, metric)
            for step, value in sorted(points.items())
            if value is not None
        ]


def _lines(job: Job, metric: str) -> list[tuple[str, Mapping[int, float | None]]]:
    task, curves = registry.find(job.task), read_logs(job.path).curves
    title = task.metrics[metric].title
    return [
        ("train loss", curves.get("train", {}).get("loss", {})),
        (f"dev {title} (%)", curves.get(task.split("dev"), {}).get(metric, {})),
    ]


def outcomes(jobs: Sequence[Job], trainable: Mapping[str, int | None], *, baseline: str | None = None) -> list[Outcome]:
    """The outcome of each cell that has been tested, by task, in the order of the jobs.

    Args:
        jobs: the runs of a sweep.
        trainable: key of a run -> parameters trained in the upstream.
        baseline: the method with which the others are compared, next to the best one.
    """
    cells: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        if job.stage == FINAL and state_of(job) == DONE and tested(job) is not None:
            key = (job.task, job.method, job.backbone, written(job.varied), written(job.searched))
            cells.setdefault(key, []).append(job)
    found = [_outcome(runs, trainable.get(runs[0].key) or 0) for runs in cells.values()]
    tasks = dict.fromkeys(outcome.first.task for outcome in found)
    return [each for task in tasks for each in _compared([o for o in found if o.first.task == task], baseline)]


def _outcome(jobs: list[Job], trained: int) -> Outcome:
    task, items = registry.find(jobs[0].task), _items(jobs)
    also = task.also if task.also in items[0].measures else None
    test = tested(jobs[0])
    results = [read_results(job.path / RESULTS) for job in jobs]
    parameters = results[0]["parameters"] or {}
    return Outcome(
        jobs=jobs,
        results=results,
        items=items,
        value=interval(items, task.main_metric),
        also=None if also is None else interval(items, also),
        chance=test.get("chance", {}).get(task.main_metric),
        trained=trained,
        head=parameters.get("head", 0) + parameters.get("featurizer", 0),
    )


def _items(jobs: Sequence[Job]) -> list[Items]:
    """The results of each seed; folds are joined."""
    seeds: dict[int, dict[str, Items]] = {}
    for job in jobs:
        seeds.setdefault(job.seed, {})[job.fold or ""] = load_items(Path(job.folder), job.split("test"))
    most = max(map(len, seeds.values()))
    whole = [folds for folds in seeds.values() if len(folds) == most]
    return [join_folds(folds) if most > 1 else next(iter(folds.values())) for folds in whole]


def _compared(cells: list[Outcome], baseline: str | None) -> list[Outcome]:
    """Add the comparisons of a task's cells with the best one and with the baseline."""
    known = {number: cell.value.value for number, cell in enumerate(cells)}
    best = (max if cells[0].task.higher_is_better else min)(known, key=known.__getitem__)
    against = [_against(cells, best)]
    others = [number for number, cell in enumerate(cells) if cell.name == baseline]
    against.append(_against(cells, others[0]) if others else {})
    return [
        replace(cell, best=against[0].get(str(number)), baseline=against[1].get(str(number)))
        for number, cell in enumerate(cells)
    ]


def _against(cells: Sequence[Outcome], reference: int) -> dict[str, Comparison]:
    """Compare all cells that have as many seeds with one of them."""
    first = cells[reference]
    same = {
        str(number): cell.items
        for number, cell in enumerate(cells)
        if number != reference and len(cell.items) == len(first.items)
    }
    return compare_all(first.items, same, first.task.main_metric) if same else {}
