"""How good a method is with how many adapted layers, for sweeps that vary them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.summary.outcomes import Outcome
from upstream_elp.sweep.jobs import Job
from upstream_elp.sweep.names import apart, written


@dataclass(frozen=True)
class Point:
    """One cell of a series.

    Args:
        series: the method, with the part whose layers vary, and other settings.
        layers: number of adapted layers.
        outcome: the cell.
    """

    series: str
    layers: int
    outcome: Outcome


@dataclass(frozen=True)
class Series:
    """The cells of a task that differ in their layers.

    Args:
        points: by series, then by the number of layers.
        without: cells of the task that train nothing in the backbone, to compare with.
        unknown: names of cells whose number of layers is not known.
    """

    points: Sequence[Point]
    without: Sequence[Outcome]
    unknown: Sequence[str]


def series(cells: Sequence[Outcome]) -> Series:
    """The series of one task; there are no points if its cells do not differ in their layers."""
    varied = [each for each in cells if _parts(each.first)]
    kinds = {each.first.method: {_parts(other.first) for other in varied if _same(other, each)} for each in varied}
    points, unknown = [], []
    for each in cells:
        for parts in sorted({_parts(each.first)} if _parts(each.first) else kinds.get(each.first.method, ())):
            count = _count(each, parts)
            if count is None:
                unknown.append(each.name)
                continue
            several = len(kinds[each.first.method]) > 1
            points.append(Point(_name(each, parts if several else ()), count, each))
    points.sort(key=lambda point: (point.series, point.layers))
    without = [each for each in cells if each.trained == 0 and varied]
    return Series(points, without, unknown)


def _parts(job: Job) -> tuple[str, ...]:
    """The parts of the adapter whose layers the plan varies."""
    keys = [key.split(".") for key in apart(job.varied)]
    return tuple(key[1] for key in keys if key[0] == "adapter" and len(key) == 3 and key[2] == "layers")


def _same(one: Outcome, other: Outcome) -> bool:
    return one.first.method == other.first.method


def _others(job: Job) -> dict[str, Any]:
    """The run's values of the grid without those of layers."""
    return {key: value for key, value in apart(job.varied).items() if not key.endswith(".layers")}


def _name(cell: Outcome, parts: Sequence[str]) -> str:
    job = cell.first
    named = f"{job.method} ({' and '.join(parts)})" if parts else job.method
    backbone = cell.name.removeprefix(" ".join(each for each in (job.method, written(job.varied)) if each)).strip()
    return " ".join(each for each in (named, written(_others(job)), backbone) if each)


def _count(cell: Outcome, parts: Sequence[str]) -> int | None:
    """The number of layers in which any of these parts is; None if the backbone's number of layers is not known."""
    adapter: Mapping[str, Any] = cell.first.adapter or {}
    if cell.depth is None:
        return None
    found = [resolve_layers(adapter[part]["layers"], cell.depth) for part in parts if "layers" in adapter.get(part, {})]
    return len({layer for each in found for layer in each})
