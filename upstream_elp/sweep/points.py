"""The product of a plan: one cell per task, method, backbone, fold and setting, each with its seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from downstream_heads import registry
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean
from upstream_elp.sweep.blocks import ALL, AXES, Block
from upstream_elp.sweep.choices import Backbone, Method
from upstream_elp.sweep.names import apart
from upstream_elp.sweep.plan import Plan
from upstream_elp.sweep.searching import Search


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but their seed.

    Args:
        where: the block of the plan, for messages.
        task: full name.
        method: the adapter or upstream.
        backbone: None for S3PRL's own upstreams.
        fold: ``-v``; None for the task's default.
        seeds: the seeds.
        config: the task configuration as the plan names it; None for the task's own.
        changes: dotted key -> value, for all runs of the block.
        varied: the cell's values of the block's grid.
        searched: the values of a search's grid.
    """

    where: str
    task: str
    method: Method
    backbone: Backbone | None
    fold: str | None
    seeds: tuple[int, ...]
    config: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    searched: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """All changed keys, each by itself."""
        return apart({**self.changes, **self.varied, **self.searched})

    @property
    def title(self) -> str:
        """What messages call it."""
        parts = (self.task, self.method.name, self.backbone.name if self.backbone else "", self.fold or "")
        return " ".join(part for part in parts if part)


def cells(plan: Plan) -> list[Cell]:
    """All cells of a plan in the order in which it names them, without those that it excludes.

    Raises:
        ElpError: nothing to run, contradictory folds, or an exclusion that excludes nothing.
    """
    found = [cell for block in plan.blocks for cell in _of_block(block)]
    if not found:
        own = plan.blocks[0]
        has = {"tasks": own.tasks, "methods": own.methods, "seeds": own.seeds is not None}
        lacking = [axis for axis, named in has.items() if not named]
        raise ElpError(f"{plan.where} must name tasks, methods and seeds, but names no {' and no '.join(lacking)}")
    _check_exclusions(plan, found)
    kept = [rest for cell in found if (rest := _without(cell, plan)) is not None]
    if not kept:
        raise ElpError(f"{plan.where} must leave something to run, but exclude removes every run; remove an entry")
    return kept


def settings_of(search: Search, cell: Cell) -> list[dict[str, Any]]:
    """All settings of a grid for one cell."""
    return _product(search.spaces[cell.method.name])


def _of_block(block: Block) -> Iterator[Cell]:
    if not (block.tasks and block.methods) or block.seeds is None:
        return
    if missing := [each.name for each in block.methods if each.config is not None and not block.backbones]:
        raise ElpError(f"{block.where}: backbones must name the frozen model of {missing[0]}, but is missing; add it")
    with_folds = [task for task in block.tasks if registry.described(task).variants]
    if block.folds is not None and not with_folds:
        known = [task.short for task in registry.tasks().values() if task.variants]
        raise ElpError(f"{block.where}: folds must belong to a task that has them ({', '.join(known)}), but none does")
    for task, each in itertools.product(block.tasks, block.methods):
        config = block.config.get(task, block.config.get(None))
        backbones = (None,) if each.config is None else block.backbones
        for backbone, fold, varied in itertools.product(backbones, _folds(block, task), _product(block.grid)):
            yield Cell(block.where, task, each, backbone, fold, block.seeds, config, block.changes, varied)


def _folds(block: Block, task: str) -> tuple[str | None, ...]:
    variants = registry.described(task).variants
    if block.folds is None or not variants:
        return (None,)
    if block.folds == ALL:
        return variants
    for fold in block.folds:
        if fold not in variants:
            hint = did_you_mean(fold, variants)
            raise ElpError(
                f"{block.where}: folds of {task} must be among {', '.join(variants)}, but one is {shown(fold)}; "
                f"{hint or 'remove it'}"
            )
    return tuple(block.folds)


def _product(grid: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


# exclusions --------------------------------------------------------------------------------------------------------


def _without(cell: Cell, plan: Plan) -> Cell | None:
    """The cell without its excluded seeds; None if nothing of it is left."""
    fitting = [entry for entry in plan.exclude if _fits(cell, entry)]
    seeds = tuple(seed for seed in cell.seeds if not any(seed in entry.get("seeds", [seed]) for entry in fitting))
    gone = cell.seeds and not seeds
    return None if gone or any("seeds" not in entry for entry in fitting) else replace(cell, seeds=seeds)


def _fits(cell: Cell, entry: Mapping[str, tuple[Any, ...]]) -> bool:
    has = {
        "tasks": cell.task,
        "methods": cell.method.name,
        "backbones": cell.backbone.name if cell.backbone else None,
        "folds": cell.fold,
        **cell.values,
    }
    return all(key in has and has[key] in values for key, values in entry.items() if key != "seeds")


def _check_exclusions(plan: Plan, found: list[Cell]) -> None:
    for number, entry in enumerate(plan.exclude):
        fitting = [cell for cell in found if _fits(cell, entry)]
        if not any("seeds" not in entry or {*cell.seeds} & {*entry["seeds"]} for cell in fitting):
            text = ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in entry.items())
            axes = ", ".join(AXES)
            raise ElpError(
                f"{plan.where}: exclude[{number}] must fit at least one run, but no run has {text}; correct it, or "
                f"remove it (its keys are {axes}, and changed keys)"
            )
