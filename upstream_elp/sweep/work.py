"""The whole work of a plan: its jobs in both stages, checked, and the folder that they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from upstream_elp.adapters.config import parse_config
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json
from upstream_elp.sweep import search
from upstream_elp.sweep.jobs import FINAL, Job
from upstream_elp.sweep.plan import Plan
from upstream_elp.sweep.points import Cell, cells
from upstream_elp.sweep.resolve import Resolver
from upstream_elp.sweep.trials import Trials

MANIFEST = "sweep.json"
FORMAT = 1


@dataclass
class Work:
    """The jobs of a plan.

    Args:
        plan: the plan.
        out: the folder of the sweep.
        search: runs of the search; empty without one.
        final: runs that are tested; those of a cell whose search has not ended are not among them.
        waiting: number of runs that wait for results of the search: those that it has not proposed yet, and final ones.
        searches: the settings of each cell that is searched.
        trainable: key of a job -> number of parameters that it trains in the upstream.
        depth: key of a job -> number of encoder layers of its backbone, if it has one.
        trials: the search, which records what it proposed; None without one.
    """

    plan: Plan
    out: Path
    search: list[Job] = field(default_factory=list)
    final: list[Job] = field(default_factory=list)
    waiting: int = 0
    searches: list[list[search.Trial]] = field(default_factory=list)
    trainable: dict[str, int] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)
    trials: Trials | None = None

    @property
    def jobs(self) -> list[Job]:
        """All jobs that are known yet, in the order in which they may run."""
        return [*self.search, *self.final]


class Planner:
    """Expands and checks a plan; :meth:`work` can be called again when a search has come further.

    Args:
        plan: the plan.
        out: the folder of the sweep.
        data: folder of the corpora, unless the task configurations name them.

    Raises:
        ElpError: anything that would make a run fail before its first step, or the folder of another plan.
    """

    def __init__(self, plan: Plan, out: Path, *, data: str | None) -> None:
        check_folder(out, plan.name)
        self.plan, self.out = plan, out
        self.cells = cells(plan)
        several = len({cell.backbone for cell in self.cells if cell.backbone is not None}) > 1
        self.resolver = Resolver(out, data, several=several, processes=plan.processes)
        self.trials = None if plan.search is None else Trials(plan, self.resolver, out)
        self._trainable: dict[tuple[Any, ...], int] = {}
        self._depth: dict[tuple[str, str | None], int] = {}
        self.work()  # resolves and checks everything
        if self.trials is not None:  # also what will be proposed later
            self._count(Work(plan, out, [job for cell in self.cells for job in self.trials.corners(cell)]))
        _check_upstreams(self.cells)

    def work(self) -> Work:
        """All jobs, as far as the search has come."""
        work = Work(self.plan, self.out, trials=self.trials)
        for cell in self.cells:
            chosen: Cell | None = cell
            if self.trials is not None:
                trials = self.trials.of(cell)
                work.search += [job for each in trials for job in each.jobs]
                work.waiting += self.trials.missing(trials)
                work.searches.append(trials)
                found = search.best(trials)
                chosen = None if found is None else replace(cell, searched=found.first.searched)
            if chosen is None:
                work.waiting += len(cell.seeds)
            else:
                work.final += self.resolver.jobs(chosen, FINAL)
        work.search, work.final = _distinct(work.search, self.plan), _distinct(work.final, self.plan)
        self._count(work)
        return work

    def _count(self, work: Work) -> None:
        """Refuse adapters that a backbone refuses, and count what the others train on it."""
        unknown: dict[tuple[str, str | None], dict[str, Job]] = {}
        for job in work.jobs:
            if job.adapter is not None and _counted(job) not in self._trainable:
                unknown.setdefault((job.upstream, job.place), {})[json.dumps(job.adapter, sort_keys=True)] = job
        for (upstream, place), jobs in unknown.items():
            self._depth[upstream, place], counts = _counts(self.plan, upstream, place, jobs)
            for text, count in counts.items():
                self._trainable[upstream, place, text] = count
        for job in work.jobs:
            work.trainable[job.key] = 0 if job.adapter is None else self._trainable[_counted(job)]
            if job.adapter is not None:
                work.depth[job.key] = self._depth[job.upstream, job.place]


def _counted(job: Job) -> tuple[str, str | None, str]:
    return job.upstream, job.place, json.dumps(job.adapter, sort_keys=True)


def _counts(plan: Plan, upstream: str, place: str | None, jobs: dict[str, Job]) -> tuple[int, dict[str, int]]:
    """The number of encoder layers, and what each adapter trains in them."""
    from upstream_elp.backbones.architecture import architecture
    from upstream_elp.upstream.counting import count_parameters
    from upstream_elp.upstream.fitting import counts_on

    configs = {text: parse_config(job.adapter, where=job.method) for text, job in jobs.items()}
    if place is not None:
        _, depth, counts, unfit = counts_on(place, configs)
    else:
        counts, unfit, model = {}, {}, architecture(upstream)
        depth = model.layers
        for text, config in configs.items():
            try:
                counts[text] = count_parameters(config, model)
            except ElpError as error:
                unfit[text] = str(error)
    for text, why in unfit.items():
        job = jobs[text]
        raise ElpError(
            f"{plan.where}: {job.method} must fit the backbone {job.backbone}, but does not: {why}; exclude it"
        )
    return depth, {text: count["trainable"]["total"] for text, count in counts.items()}


def _check_upstreams(found: Sequence[Cell]) -> None:
    """Refuse names that S3PRL's hub does not have."""
    named = {cell.method.upstream: cell for cell in found if cell.method.upstream is not None}
    if not named:
        return
    from s3prl import hub

    from upstream_elp.launch import arguments

    for name, cell in named.items():
        try:
            arguments.name("-u", name, hub.options())
        except ElpError as error:
            raise ElpError(f"{cell.where}: methods: {error}") from error


def _distinct(jobs: list[Job], plan: Plan) -> list[Job]:
    """Each run once; two methods or backbones with different names must be different runs."""
    known: dict[str, Job] = {}
    for job in jobs:
        first = known.setdefault(job.key, job)
        for kind in ("method", "backbone"):
            here, there = getattr(job, kind), getattr(first, kind)
            if here != there:
                raise ElpError(
                    f"{plan.where}: {kind}s must differ, but {there} and {here} are the same by content; remove one"
                )
    return list(known.values())


# the folder --------------------------------------------------------------------------------------------------------


def check_folder(out: Path, name: str) -> None:
    """Refuse the folder of another plan.

    Raises:
        ElpError: it belongs to another plan, or contains runs of something else.
    """
    if out.exists() and not out.is_dir():
        raise ElpError(f"--out {out} must be a folder, but is a file; choose another one")
    if not (out / MANIFEST).is_file():
        if there := [name for name in ("runs", "search") if (out / name).exists()]:
            raise ElpError(
                f"--out {out} must be new or belong to this plan, but contains {there[0]} without {MANIFEST}; choose "
                "another folder"
            )
        return
    known = read_manifest(out)["name"]
    if known != name:
        raise ElpError(f"--out {out} must belong to the plan {name}, but belongs to {known}; choose another folder")


def write_manifest(work: Work) -> None:
    """Write ``sweep.json``, from which the state can be read without the plan, the data and the backbones.

    What a search has proposed is recorded next to it.

    Raises:
        ElpError: the folder is not writable.
    """
    try:
        work.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElpError(
            f"--out {work.out} must be writable, but is not ({error.strerror}); choose another one"
        ) from error
    plan = work.plan
    described = {
        "name": plan.name, "description": plan.description, "source": plan.source, "plan": plan.where,
        "compare": plan.compare.to_dict(), "content": dict(plan.content), "started": started(),
    }  # fmt: skip
    described["trials"] = None if plan.search is None else plan.search.trials
    counted = {"trainable": work.trainable, "depth": work.depth}
    jobs = [{**asdict(job), **{name: known.get(job.key) for name, known in counted.items()}} for job in work.jobs]
    write_json(work.out / MANIFEST, {"format": FORMAT, **described, "waiting": work.waiting, "jobs": jobs})
    if work.trials is not None:
        work.trials.save()


def read_manifest(out: Path) -> dict[str, Any]:
    """The content of a sweep's ``sweep.json``; ``jobs`` are :class:`Job` objects, ``trainable`` and ``depth`` by key.

    The folders of the jobs are those in ``out``, also if it has moved or has another path on another machine.

    Raises:
        ElpError: there is none, or it is not ours.
    """
    path = out / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        for name in ("trainable", "depth"):  # earlier versions did not write the depth
            content[name] = {job["key"]: job.pop(name, None) for job in content["jobs"]}
        content["jobs"] = [_placed(Job(**job), out) for job in content["jobs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElpError(f"{out} must be the folder of a sweep, but {path} cannot be read ({error})") from error
    return content


def _placed(job: Job, out: Path) -> Job:
    here = out.absolute() / Path(*job.path.parts[-3:])
    return replace(job, folder=str(here)) if here.is_dir() else job


def started() -> dict[str, Any]:
    """What the user typed, and the folder in which."""
    return {"command": ["elp", *sys.argv[1:]], "folder": str(Path.cwd())}
