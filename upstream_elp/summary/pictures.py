"""The pictures of outcomes: values with intervals, values against size and against adapted layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from downstream_heads import registry
from downstream_heads.contract import Task
from upstream_elp.base.pictures import as_written, legend_below, save_as, tiles
from upstream_elp.summary.layers import Series
from upstream_elp.summary.outcomes import BEST, Outcome

#: Okabe and Ito's colours without yellow, which is hard to see on white; with markers, nothing depends on a colour only
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("X", "o", "s", "^", "D", "v", "P", "*")
LINEAR = 1000
"""Trained parameters up to which the axis is linear, so that it has a zero."""
GREY = "0.45"
LINES = ("-", "--", "-.", ":")
ROW = 0.27
"""Inches per line of a list."""


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name; the pairs repeat after 56 names."""
    return {
        name: {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        for number, name in enumerate(dict.fromkeys(names))
    }


def by_task(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The cells of each task."""
    tasks = dict.fromkeys(each.first.task for each in outcomes)
    return [[each for each in outcomes if each.first.task == task] for task in tasks]


def heading(task: Task) -> str:
    """A task with its metric, unit and direction."""
    return f"{task.title}: {task.metrics[task.main_metric].heading}"


# values ------------------------------------------------------------------------------------------------------------


def plot_values(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot the interval of each cell as a line, its mean as a marker, and its seeds as open circles."""
    tasks = by_task(outcomes)
    look = styles(each.first.method for each in outcomes)
    most = max(map(len, tasks))
    figure, axes = tiles(len(tasks), width=4.8, height=1.0 + ROW * most, most=2)
    for axis, cells in zip(axes, tasks, strict=True):
        for place, each in enumerate(cells):
            style = look[each.first.method]
            if each.value.low is not None:
                axis.plot([each.value.low, each.value.high], [place, place], color=style["color"], linewidth=2)
            axis.plot(each.value.value, place, markersize=7, linestyle="", **style)
            seeds = list(each.of_seeds.values())
            if len(seeds) > 1:
                axis.plot(seeds, [place + 0.24] * len(seeds), "o", mfc="none", color=style["color"], markersize=4)
        axis.set_yticks(range(len(cells)), [_label(each) for each in cells])
        for text, each in zip(axis.get_yticklabels(), cells, strict=True):
            text.set_fontweight("bold" if each.mark else "normal")
        axis.set_ylim(most - 0.4, -0.6)
        axis.set_title(heading(cells[0].task))
        _chance(axis, cells[0], vertical=True)
        axis.grid(axis="x", alpha=0.3)
    save_as(figure, path)


def _label(cell: Outcome) -> str:
    return as_written(cell.name) + (" (best)" if cell.mark == BEST else "")


def _chance(axis: Axes, outcome: Outcome, *, vertical: bool = False) -> None:
    """Draw the value of a trivial answer if it is not far away from the others."""
    low, high = sorted(axis.get_xlim() if vertical else axis.get_ylim())
    if outcome.chance is None or not low - (high - low) < outcome.chance < high + (high - low):
        return
    line, along = (axis.axvline, ("data", "axes fraction")) if vertical else (axis.axhline, ("axes fraction", "data"))
    line(outcome.chance, linestyle=":", linewidth=1, color=GREY)
    place = (outcome.chance, 0.02) if vertical else (0.99, outcome.chance)
    side = {"ha": "left", "va": "bottom", "rotation": 90} if vertical else {"ha": "right", "va": "bottom"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    axis.annotate("chance", place, xycoords=along, color=GREY, fontsize=8, bbox=box, zorder=1, **side)
    if not vertical:  # room for the text
        low, high = axis.get_ylim()
        axis.set_ylim(low, max(high, outcome.chance + 0.08 * (high - low)))


# sizes -------------------------------------------------------------------------------------------------------------


def plot_sizes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot the value against the trained parameters, one panel per task, with bars of one standard error."""
    look = styles(each.first.method for each in outcomes)
    tasks = by_task([each for each in outcomes if each.trained is not None])
    figure, axes = tiles(len(tasks), height=3.0)
    for axis, cells in zip(axes, tasks, strict=True):
        places = _places(cells)
        front = sorted((places[number], each.value.value) for number, each in enumerate(cells) if each.pareto)
        axis.plot(
            *zip(*front, strict=True), drawstyle="steps-post", linestyle="--", linewidth=1, color=GREY, zorder=1,
            label="Pareto front",
        )  # fmt: skip
        axis.plot(*zip(*front, strict=True), "o", mfc="none", color=GREY, markersize=12, zorder=1)
        for each, place in zip(cells, places, strict=True):
            axis.errorbar(
                place, each.value.value, yerr=each.value.se, linestyle="", markersize=6, capsize=2,
                label=as_written(each.first.method), **look[each.first.method],
            )  # fmt: skip
        _size_axis(axis, max(each.trained for each in cells))
        axis.set_title(heading(cells[0].task))
        _chance(axis, cells[0])
        axis.grid(alpha=0.3)
    legend_below(figure, axes)
    save_as(figure, path)


def _size_axis(axis: Axes, largest: int) -> None:
    axis.set_xscale("symlog", linthresh=LINEAR)
    axis.set_xticks([0, *(power for power in (10**number for number in range(3, 11)) if power <= 3 * largest)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(-LINEAR / 2, 3 * max(largest, LINEAR))
    axis.set_xlabel("parameters trained in the backbone")


def _places(found: Sequence[Outcome]) -> list[float]:
    """The numbers of trained parameters; cells without any stand next to each other around zero."""
    nothing = [each for each in found if not each.trained]
    shift = {id(each): LINEAR * (index - (len(nothing) - 1) / 2) / 4 for index, each in enumerate(nothing)}
    return [shift.get(id(each), each.trained) for each in found]


# layers ------------------------------------------------------------------------------------------------------------


def plot_layers(found: Mapping[str, Series], methods: Sequence[str], path: Path) -> None:
    """Plot the value against the number of adapted layers, one panel per task, with bars of one standard error.

    Args:
        found: the full names of tasks with their series, which have points.
        methods: all methods of the sweep in their order, so that each has the colour that it has in other pictures.
        path: the file.
    """
    look = _series_styles(found, methods)
    figure, axes = tiles(len(found), height=3.2, width=4.0)
    for axis, (task, each) in zip(axes, found.items(), strict=True):
        names = list(dict.fromkeys(point.series for point in each.points))
        for number, name in enumerate(names):
            points = [point for point in each.points if point.series == name]
            shift = 0.08 * (number - (len(names) - 1) / 2) / max(1, len(names) / 3)  # bars do not hide each other
            axis.errorbar(
                [point.layers + shift for point in points], [point.outcome.value.value for point in points],
                yerr=[point.outcome.value.se or 0.0 for point in points], capsize=2, markersize=6, linewidth=1.3,
                label=as_written(name), **look[name],
            )  # fmt: skip
        for cell, dashes in zip(each.without, (":", "-.", "--") * len(each.without), strict=False):
            label = f"{as_written(cell.name)} (no adapted layer)"
            axis.axhline(cell.value.value, linestyle=dashes, linewidth=1.2, color=GREY, label=label)
        axis.set_title(heading(registry.described(task)))
        axis.set_xlabel("adapted layers")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    legend_below(figure, axes, columns=3)
    save_as(figure, path)


def _series_styles(found: Mapping[str, Series], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The colour and marker of the method; several series of one method differ in their lines and markers."""
    known: dict[str, list[str]] = {}
    for point in (point for each in found.values() for point in each.points):
        names = known.setdefault(point.outcome.first.method, [])
        names += [] if point.series in names else [point.series]
    look, styled = styles(methods), {}
    for method, names in known.items():
        for number, name in enumerate(names):
            marker = MARKERS[(MARKERS.index(look[method]["marker"]) + 3 * number) % len(MARKERS)]
            line = LINES[number % len(LINES)]
            styled[name] = {"color": look[method]["color"], "marker": marker, "linestyle": line}
    return styled
