"""How the cells of a task compare: with the best one, with the plan's baseline, and by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.statistics import Comparison, compare, holm
from upstream_elp.summary.outcomes import BEST, LEVEL, TIED, Outcome
from upstream_elp.sweep.compare import Compare
from upstream_elp.sweep.names import written


def compared(cells: Sequence[Outcome], plan: Compare) -> list[Outcome]:
    """Add the comparisons to the cells of all tasks.

    Args:
        cells: the cells, as :func:`upstream_elp.summary.outcomes.outcomes` returned them.
        plan: the baseline and the margins.
    """
    tasks = dict.fromkeys(cell.first.task for cell in cells)
    return [each for task in tasks for each in _of_task([c for c in cells if c.first.task == task], plan)]


def _of_task(cells: list[Outcome], plan: Compare) -> list[Outcome]:
    known = [number for number, cell in enumerate(cells) if math.isfinite(cell.value.value)]
    if not known:
        return cells
    upwards = cells[0].task.higher_is_better
    sign = -1 if upwards else 1  # of equal values, the one that trains least
    best = min(known, key=lambda number: (sign * cells[number].value.value, cells[number].trained or 0))
    with_best, why = _against(cells, dict.fromkeys(set(range(len(cells))) - {best}, best))
    references = {number: _baseline(number, cells, plan.baseline) for number in range(len(cells))}
    with_baseline, _ = _against(cells, {number: other for number, other in references.items() if other is not None})
    front = pareto([(cell.trained, cell.value.value) for cell in cells], upwards=upwards)
    return [
        replace(
            cell,
            mark=BEST if number == best else TIED if _tied(with_best.get(number)) else "",
            best=with_best.get(number),
            baseline=with_baseline.get(number),
            margin=plan.margin(cell.first.task),
            uncompared=why.get(number, ""),
            pareto=number in front,
        )
        for number, cell in enumerate(cells)
    ]


def _tied(found: Comparison | None) -> bool:
    return found is not None and found.p_holm is not None and found.p_holm >= LEVEL


def _baseline(number: int, cells: Sequence[Outcome], name: str | None) -> int | None:
    """The number of the baseline's cell for another cell: with the same backbone and setting if there are several."""
    found = [other for other, cell in enumerate(cells) if cell.first.method == name]
    here = cells[number].first
    for same in (lambda job: job.backbone == here.backbone, lambda job: written(job.varied) == written(here.varied)):
        if len(found) > 1:
            found = [other for other in found if same(cells[other].first)]
    return found[0] if len(found) == 1 and found[0] != number and cells[number].first.method != name else None


def _against(cells: Sequence[Outcome], references: Mapping[int, int]) -> tuple[dict[int, Comparison], dict[int, str]]:
    """Compare cells with their references on the seeds that both have; p is adjusted for all these comparisons."""
    found: dict[int, Comparison] = {}
    why: dict[int, str] = {}
    for number, other in sorted(references.items()):
        cell, reference = cells[number], cells[other]
        seeds = [seed for seed in reference.items if seed in cell.items]
        if not seeds:
            why[number] = f"no seed in common with {reference.name}"
            continue
        pair = ([each.items[seed] for seed in seeds] for each in (reference, cell))
        try:
            found[number] = compare(*pair, cell.task.main_metric)
        except ElpError as error:  # another test set, after a change of the protocol
            why[number] = str(error)
    known = {number: one.p for number, one in found.items() if one.p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True))
    return {number: replace(one, p_holm=adjusted.get(number)) for number, one in found.items()}, why


def pareto(points: Sequence[tuple[Any, float]], *, upwards: bool) -> set[int]:
    """The places of the points that no other point beats.

    A point beats another if it is at most as large, at least as good, and better in one of the two.

    Args:
        points: sizes and values; a size that is None, or a value that is not finite, is never on the front.
        upwards: whether a larger value is better.
    """
    usable = {
        place: (size, -value if upwards else value)
        for place, (size, value) in enumerate(points)
        if size is not None and math.isfinite(value)
    }
    return {
        place
        for place, (size, value) in usable.items()
        if not any(s <= size and v <= value and (s, v) != (size, value) for s, v in usable.values())
    }
