"""The outcome of each cell of a sweep: its value on test with an interval, over its seeds and folds.

A cell is one method on one task with one backbone and setting; its runs differ in seed and fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from downstream_heads import registry
from downstream_heads.contract import Task
from upstream_elp.experiment.logs import read_logs
from upstream_elp.statistics import Comparison, Interval, Items, estimate, interval, join_folds
from upstream_elp.summary.runs import Run, Sweep
from upstream_elp.sweep.jobs import FINAL, Job
from upstream_elp.sweep.names import written

LOSS = "train loss"
"""The name of that curve; the other one is of the dev set."""
LEVEL = 0.05
"""The p below which two methods count as different, after Holm's correction for all comparisons of a task."""
BEST, TIED = "best", "tied"
"""What a cell is among those of its task: the best one, or one that does not differ significantly from it."""


@dataclass(frozen=True)
class Outcome:
    """One cell.

    Args:
        name: the method, with what distinguishes the cell from others of the same method.
        runs: its tested runs.
        planned: all its runs, tested or not.
        items: seed -> the results of the test set, of the seeds whose folds are complete.
        folds: fold -> the values of these seeds; empty without folds.
        value: the main metric with its interval.
        also: the task's second metric, if it has one and the items have it.
        trained: parameters trained in the upstream; None if unknown.
        head: parameters trained in the head.
        mark: :data:`BEST`, :data:`TIED` or empty.
        best: the comparison with the best cell of the task; None for that cell itself.
        baseline: the comparison with the baseline's cell; None for that cell itself, or without a baseline.
        margin: the largest loss against the baseline that does not matter, in percentage points.
        uncompared: why there is no comparison; empty if there is one.
        pareto: whether no cell of the task has a better value without training more in the upstream.
        seeds_planned: how many seeds the plan has for it.
        place: its place in tables and pictures: by the size of its method, then by its own.
    """

    name: str
    runs: Sequence[Run]
    planned: Sequence[Job]
    items: Mapping[int, Items]
    folds: Mapping[str, Sequence[float]]
    value: Interval
    also: Interval | None
    trained: int | None
    head: int
    mark: str = ""
    best: Comparison | None = None
    baseline: Comparison | None = None
    margin: float | None = None
    uncompared: str = ""
    pareto: bool = False
    seeds_planned: int = 1
    place: tuple[int, ...] = ()

    @property
    def first(self) -> Job:
        """The first run, for what all share."""
        return self.runs[0].job

    @property
    def task(self) -> Task:
        """The task."""
        return registry.described(self.first.task)

    @property
    def depth(self) -> int | None:
        """Encoder layers of the backbone; None if unknown, or without a backbone."""
        return self.runs[0].depth

    @property
    def chance(self) -> float | None:
        """The main metric of a trivial answer, if known."""
        return (self.runs[0].test.get("chance") or {}).get(self.task.main_metric)

    @property
    def chosen(self) -> str:
        """The setting that the search has chosen; one per fold if they differ."""
        found = {run.job.fold or "": written(run.job.searched) for run in self.runs}
        if len({*found.values()}) == 1:
            return next(iter(found.values()))
        return "; ".join(f"{fold}: {setting}" for fold, setting in found.items())

    @property
    def of_seeds(self) -> dict[int, float]:
        """The value of each seed."""
        return {seed: estimate(items, self.task.main_metric) for seed, items in self.items.items()}

    @property
    def non_inferior(self) -> bool | None:
        """Whether it is worse than the baseline by less than the margin; None without a margin or a comparison."""
        if self.baseline is None or self.margin is None:
            return None
        return self.baseline.non_inferior(self.margin)

    @property
    def seconds(self) -> float | None:
        """Mean seconds of training per run; None if no run recorded them."""
        return mean([run.results["seconds"] for run in self.runs])

    def energy(self, kind: str) -> float | None:
        """Mean joules per run of ``processors`` or ``gpus``; None unless all runs recorded them."""
        found = [(run.results.get("energy_joules") or {}).get(kind) for run in self.runs]
        return None if None in found else fmean(found)

    @property
    def memory(self) -> float | None:
        """The largest peak memory of a run in bytes; None if no run recorded it."""
        return max((run.results["peak_memory_bytes"] or 0 for run in self.runs), default=0) or None

    @property
    def layer_weights(self) -> list[dict[str, Any]]:
        """Names of the layers and their softmax weights, means over the runs; empty if the head sees one state."""
        runs = [run.results["layer_weights"] or [] for run in self.runs]
        if not runs[0] or any(len(run) != len(runs[0]) for run in runs):
            return []
        layers = zip(*runs, strict=True)
        return [{"layer": each[0]["layer"], "weight": fmean(one["weight"] for one in each)} for each in layers]

    def curves(self) -> list[dict[str, Any]]:
        """Points of the train loss and of the dev metric (the second one, if there are two) of each run."""
        metric = self.task.also or self.task.main_metric
        return [
            {"seed": run.job.seed, "fold": run.job.fold or "", "what": what, "step": step, "value": value}
            for run in self.runs
            for what, points in _lines(run.job, metric)
            for step, value in sorted(points.items())
            if value is not None
        ]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _lines(job: Job, metric: str) -> list[tuple[str, Mapping[int, float | None]]]:
    task, curves = registry.described(job.task), read_logs(job.path).curves
    loss, dev = curves.get("train", {}).get("loss", {}), curves.get(task.split("dev"), {}).get(metric, {})
    return [(LOSS, loss), (f"dev {task.metrics[metric].heading}", dev)]


def outcomes(sweep: Sweep) -> list[Outcome]:
    """The outcome of each cell that has been tested, without comparisons.

    They are ordered by task as in the plan, then by method from the smallest to the largest, then by size.
    """
    several = len({run.job.backbone for run in sweep.runs if run.job.backbone is not None}) > 1
    planned: dict[tuple[Any, ...], list[Job]] = {}
    for run in sweep.runs:
        if run.job.stage == FINAL:
            planned.setdefault(_cell(run.job), []).append(run.job)
    cells: dict[tuple[Any, ...], list[Run]] = {}
    for run in sweep.tested:
        cells.setdefault(_cell(run.job), []).append(run)
    found = [_outcome(runs, planned[key], several=several) for key, runs in cells.items()]
    tasks = list(dict.fromkeys(each.first.task for each in found))
    sizes: dict[str, tuple[int, bool]] = {}
    for each in found:  # what needs no backbone comes first
        size = (each.trained or 0, each.first.backbone is not None)
        sizes[each.first.method] = min(size, sizes.get(each.first.method, size))
    methods = list(dict.fromkeys(each.first.method for each in found))
    placed = [
        replace(each, place=(*sizes[each.first.method], methods.index(each.first.method), each.trained or 0))
        for each in found
    ]
    return sorted(placed, key=lambda each: (tasks.index(each.first.task), each.place))


def _cell(job: Job) -> tuple[Any, ...]:
    # not what a search has chosen: it may differ from fold to fold
    return job.task, job.method, job.backbone, written(job.varied)


def _outcome(runs: Sequence[Run], planned: Sequence[Job], *, several: bool) -> Outcome:
    job, task = runs[0].job, registry.described(runs[0].job.task)
    seeds: dict[int, dict[str, Items]] = {}
    for run in sorted(runs, key=lambda run: run.job.seed):
        seeds.setdefault(run.job.seed, {})[run.job.fold or ""] = run.items
    most = max(map(len, seeds.values()))
    whole = {seed: folds for seed, folds in seeds.items() if len(folds) == most}
    items = {seed: join_folds(folds) if most > 1 else next(iter(folds.values())) for seed, folds in whole.items()}
    listed = list(items.values())
    also = task.also if task.also in listed[0].measures else None
    parameters = runs[0].results["parameters"] or {}
    name = " ".join(part for part in (job.method, written(job.varied), job.backbone if several else "") if part)
    return Outcome(
        name=name,
        runs=runs,
        planned=planned,
        items=items,
        folds=_folds(whole, task.main_metric),
        value=interval(listed, task.main_metric),
        also=None if also is None else interval(listed, also),
        trained=runs[0].trained,
        head=parameters.get("head", 0) + parameters.get("featurizer", 0),
        seeds_planned=len({each.seed for each in planned}),
    )


def _folds(seeds: Mapping[int, Mapping[str, Items]], metric: str) -> dict[str, list[float]]:
    names = sorted({fold for folds in seeds.values() for fold in folds if fold})
    return {name: [estimate(folds[name], metric) for folds in seeds.values() if name in folds] for name in names}
