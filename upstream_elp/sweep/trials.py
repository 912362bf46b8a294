"""The settings of a search as jobs: those of a grid, or what was proposed so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from downstream_heads import registry
from upstream_elp.sweep import ranges
from upstream_elp.sweep.jobs import SEARCH, Job
from upstream_elp.sweep.plan import Plan
from upstream_elp.sweep.points import Cell, settings_of
from upstream_elp.sweep.proposals import Proposals, check_installed
from upstream_elp.sweep.resolve import Resolver
from upstream_elp.sweep.search import Trial, trial
from upstream_elp.sweep.searching import OPTUNA


class Trials:
    """The runs of a plan's search.

    Args:
        plan: a plan with a search.
        resolver: turns cells into jobs.
        out: the folder of the sweep.

    Raises:
        ElpError: the search needs a package that is missing, or what it proposed cannot be read.
    """

    def __init__(self, plan: Plan, resolver: Resolver, out: Path) -> None:
        self.search, self.resolver = plan.search, resolver
        self.proposals: Proposals | None = None
        if self.search.engine == OPTUNA:
            check_installed(plan.where)
            self.proposals = Proposals(self.search, out)

    def of(self, cell: Cell) -> list[Trial]:
        """The settings of a cell; when all runs of a batch have ended, the next batch is proposed."""
        if self.proposals is None:
            return [self._trial(cell, setting) for setting in settings_of(self.search, cell)]
        space = self.search.spaces[cell.method.name]
        bare = self.resolver.jobs(replace(cell, seeds=self.search.seeds), SEARCH)
        name = self.proposals.name(space, [job.key for job in bare])
        upwards = registry.described(cell.task).higher_is_better
        found: list[Trial] = []
        while True:
            settings = self.proposals.known.get(name, [])[: self.search.trials]
            found += [self._trial(cell, setting) for setting in settings[len(found) :]]
            if len(found) >= self.search.trials or not all(each.complete for each in found):
                return found
            self.proposals.extend(name, space, [each.mean for each in found], upwards=upwards)

    def missing(self, trials: Sequence[Trial]) -> int:
        """The number of runs of a cell whose settings are not proposed yet."""
        return (self.search.trials - len(trials)) * len(self.search.seeds)

    def corners(self, cell: Cell) -> list[Job]:
        """The jobs at the limits of what may be proposed, which are resolved to check them; empty for a grid."""
        if self.proposals is None:
            return []
        settings = ranges.corners(self.search.spaces[cell.method.name])
        return [job for setting in settings for job in self._trial(cell, setting).jobs]

    def save(self) -> None:
        """Record what was proposed."""
        if self.proposals is not None:
            self.proposals.save()

    def _trial(self, cell: Cell, setting: dict) -> Trial:
        jobs = self.resolver.jobs(replace(cell, searched=setting, seeds=self.search.seeds), SEARCH)
        return trial(jobs, planned=self.search.trials)
