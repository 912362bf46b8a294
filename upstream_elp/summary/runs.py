"""What a sweep's folder contains: its runs with their states and results, read from files only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downstream_heads import registry
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.experiment.facts import RESULTS, read_results
from upstream_elp.statistics import Items, load_items
from upstream_elp.sweep import search
from upstream_elp.sweep.compare import Compare
from upstream_elp.sweep.jobs import DONE, FAILED, FINAL, STATES, Job, divergence, failure, state_of, tested
from upstream_elp.sweep.work import MANIFEST, read_manifest

UNREADABLE = "unreadable"
"""State of a run that has ended, but whose results cannot be read."""
NEEDED = ("parameters", "seconds", "peak_memory_bytes", "device", "layer_weights", "tests")
"""Keys of a run's results without which they are not those of a run that has ended."""


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        job: its description.
        state: one of :data:`upstream_elp.sweep.jobs.STATES`, or :data:`UNREADABLE`.
        why: why it failed, diverged or is unreadable; empty otherwise.
        trained: parameters trained in the upstream; None if unknown.
        depth: encoder layers of the backbone; None if unknown, or without a backbone.
        results: its ``results.json``; None unless it has ended, and if it diverged.
        test: its evaluation on test; None unless it has ended, and for runs of a search.
        items: the results of the items of the test set, in the same cases.
    """

    job: Job
    state: str
    why: str = ""
    trained: int | None = None
    depth: int | None = None
    results: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    items: Items | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder.

    Args:
        folder: its path.
        name: the plan's name.
        description: the plan's description; may be empty.
        source: the plan's source; may be empty.
        plan: the plan's path, or the command that made it.
        content: the content of the plan; empty in folders of earlier versions.
        started: ``command`` and ``folder`` of the last call; empty in folders of earlier versions.
        compare: the comparisons that the plan names.
        runs: all runs that are known yet.
        waiting: number of runs that wait for the search.
        searches: the settings of each cell that is searched.
    """

    folder: Path
    name: str
    description: str
    source: str
    plan: str
    content: Mapping[str, Any]
    started: Mapping[str, Any]
    compare: Compare
    runs: Sequence[Run]
    waiting: int = 0
    searches: Sequence[Sequence[search.Trial]] = field(default_factory=list)

    @property
    def tested(self) -> list[Run]:
        """The runs with results on test."""
        return [run for run in self.runs if run.items is not None]

    @property
    def counts(self) -> str:
        """How far it is: ``12 runs: 3 done, 9 new``."""
        counts = Counter(run.state for run in self.runs)
        listed = ", ".join(f"{counts[state]} {state}" for state in (*STATES, UNREADABLE) if counts[state])
        waiting = f"; {counted(self.waiting, 'more run')} will follow the search" if self.waiting else ""
        return f"{counted(len(self.runs), 'run')}: {listed}{waiting}"


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / MANIFEST).is_file()


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder; a run whose files are broken is kept with the reason.

    Raises:
        ElpError: no such folder, or not that of a sweep.
    """
    if not folder.is_dir():
        raise ElpError(f"{folder} must be the folder of a sweep, but there is no such folder; correct the path")
    if not is_sweep(folder):
        raise ElpError(f"{folder} must be the folder of a sweep, but has no {MANIFEST}; name the folder of --out")
    known = read_manifest(folder)
    runs = [_run(job, known) for job in known["jobs"]]
    usable = [run.job for run in runs if run.state != UNREADABLE]
    return Sweep(
        folder=folder,
        name=str(known.get("name")),
        description=known.get("description") or "",
        source=known.get("source") or "",
        plan=str(known.get("plan")),
        content=known.get("content") or {},
        started=known.get("started") or {},
        compare=Compare.from_dict(known.get("compare")),
        runs=runs,
        waiting=known.get("waiting") or 0,
        searches=search.searches(usable, planned=known.get("trials")),
    )


def _run(job: Job, known: Mapping[str, Any]) -> Run:
    facts = {"trained": known["trainable"].get(job.key), "depth": known["depth"].get(job.key)}
    state = state_of(job)
    if state == FAILED:
        return Run(job, state, failure(job), **facts)
    if state != DONE or divergence(job):
        return Run(job, state, divergence(job), **facts)
    try:
        return Run(job, state, **facts, **_results(job))
    except (ElpError, OSError) as error:
        return Run(job, UNREADABLE, " ".join(str(error).split()), **facts)


def _results(job: Job) -> dict[str, Any]:
    path = job.path / RESULTS
    results = read_results(path)
    if lacking := [key for key in NEEDED if key not in results]:
        raise ElpError(f"{path} must have the key {lacking[0]}, but has not; restore it, or remove done.json to rerun")
    if job.stage != FINAL:
        return {"results": results}
    test = tested(job)
    if test is None:
        raise ElpError(f"{path} must have an evaluation of the test set, but has none; remove done.json to rerun")
    items = load_items(job.path, job.split("test"))
    if registry.described(job.task).main_metric not in items.measures:
        raise ElpError(f"{job.path} must have the results of each test item, but they lack the main metric; rerun")
    return {"results": results, "test": test, "items": items}
