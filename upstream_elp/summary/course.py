"""The pictures of trainings: learning curves, the settings of a search, the weights of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from downstream_heads import registry
from upstream_elp.base.pictures import as_written, legend_below, panels, save_as, tiles
from upstream_elp.summary.outcomes import LOSS, Outcome
from upstream_elp.summary.pictures import GREY, ROW, by_task, styles
from upstream_elp.sweep.names import written
from upstream_elp.sweep.search import Trial, best

LISTED = 12
"""Settings of a search that each have a line of their own in its picture."""
MOST = 7
"""Lines in one panel of learning curves; more cells get a row of their own."""


# curves ------------------------------------------------------------------------------------------------------------


def bands(cell: Outcome) -> pd.DataFrame:
    """The learning curves of a cell over its seeds; folds are averaged first, within each seed.

    Returns:
        Columns ``what``, ``step``, ``mean``, ``min``, ``max`` and ``seeds``.
    """
    points = pd.DataFrame(cell.curves(), columns=["seed", "fold", "what", "step", "value"])
    seeds = points.groupby(["what", "step", "seed"], sort=False)["value"].mean()
    grouped = seeds.groupby(["what", "step"], sort=False).agg(["mean", "min", "max", "count"])
    return grouped.rename(columns={"count": "seeds"}).reset_index()


def plot_curves(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Plot the train loss next to the dev metric: a line per cell (the mean over seeds), with a band over the seeds.

    Returns:
        Whether there is a dev metric; if no run was evaluated on dev, the train loss has all the space.
    """
    groups = [cells[start : start + MOST] for cells in by_task(outcomes) for start in range(0, len(cells), MOST)]
    names = list(dict.fromkeys(each.name for each in outcomes))
    frames = {id(each): bands(each) for each in outcomes}
    evaluated = any((frame["what"] != LOSS).any() for frame in frames.values())
    kinds = (True, False) if evaluated else (True,)  # whether it is the loss, of each axis of a row
    if evaluated:
        figure, axes = panels(len(groups), 2, width=4.8, height=3.0)
    else:
        figure, places = tiles(len(groups), width=4.8, height=3.0, most=2)
        axes = [[axis] for axis in places]
    for row, cells in zip(axes, groups, strict=True):
        if evaluated:
            row[1].sharex(row[0])  # so that a single evaluation is seen to be at the end
        look = styles(names if len(names) <= MOST else (each.name for each in cells))
        for each in cells:
            frame = frames[id(each)]
            for axis, is_loss in zip(row, kinds, strict=True):
                shown = frame[(frame["what"] == LOSS) == is_loss].sort_values("step")
                style = {**look[each.name], "marker": "" if is_loss else look[each.name]["marker"]}
                line = (shown["step"], shown["mean"])
                axis.plot(*line, markersize=4, linewidth=1.3, label=as_written(each.name), **style)
                if (shown["seeds"] > 1).any():
                    axis.fill_between(
                        shown["step"], shown["min"], shown["max"], color=style["color"], alpha=0.15, linewidth=0
                    )
                if len(shown):
                    axis.set_ylabel(shown["what"].iloc[0])
        _finish(row, cells[0].task.title)
        if len(names) > MOST:
            row[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    if len(names) <= MOST:
        legend_below(figure, [row[-1] for row in axes])
    save_as(figure, path)
    return evaluated


def _finish(row: Sequence[Axes], title: str) -> None:
    for axis in row:
        axis.set_title(title)
        axis.set_xlabel("optimizer step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axis.grid(alpha=0.3)


# search ------------------------------------------------------------------------------------------------------------


def plot_search(searches: Sequence[Sequence[Trial]], path: Path) -> None:
    """Plot the value on dev of every setting, one panel per task; the chosen ones are ringed.

    If each method searches one number, the number is the horizontal axis. Otherwise each setting has a line of its own,
    or if there are many, its number, with the best value up to it.
    """
    tasks = dict.fromkeys(trials[0].first.task for trials in searches)
    groups = {task: [trials for trials in searches if trials[0].first.task == task] for task in tasks}
    numbers = all(_number(trial) is not None for trials in searches for trial in trials)
    many = not numbers and max(map(len, searches)) > LISTED
    draw = _numbered if numbers else _in_order if many else _listed
    if numbers or many:
        figure, axes = tiles(len(groups), height=3.2, width=4.8, most=2)
    else:
        rows = max(sum(map(len, group)) for group in groups.values())
        figure, axes = tiles(len(groups), height=1.0 + ROW * rows, width=9.6, most=1)
    several = len({trials[0].first.backbone for trials in searches} - {None}) > 1
    titles = {id(trials): _title(trials, several) for trials in searches}
    look = styles(titles.values())
    for axis, (task, group) in zip(axes, groups.items(), strict=True):
        draw(axis, {titles[id(trials)]: trials for trials in group}, look)
        found = registry.described(task)
        label = f"{found.title}: dev {found.metrics[found.main_metric].heading}"
        axis.set_title(label)
        axis.grid(alpha=0.3)
    legend_below(figure, axes if numbers or many else [])
    save_as(figure, path)


def _number(trial: Trial) -> float | None:
    values = list(trial.first.searched.values())
    good = len(values) == 1 and isinstance(values[0], int | float) and not isinstance(values[0], bool) and values[0] > 0
    return float(values[0]) if good else None


def _title(trials: Sequence[Trial], several: bool) -> str:
    job = trials[0].first
    backbone = job.backbone if several else None
    return " ".join(part for part in (job.method, written(job.varied), backbone, job.fold) if part)


def _numbered(axis: Axes, group: Mapping[str, Sequence[Trial]], look: Mapping[str, Any]) -> None:
    for title, trials in group.items():
        known = sorted((each for each in trials if each.mean is not None), key=_number)
        style, places = look[title], [_number(each) for each in known]
        axis.errorbar(
            places, [each.mean for each in known], yerr=_spread(known), capsize=2, markersize=5, linewidth=1.2,
            label=as_written(title), **style,
        )  # fmt: skip
        if (chosen := best(trials)) is not None:
            axis.plot(_number(chosen), chosen.mean, "o", mfc="none", color=style["color"], markersize=13)
    axis.set_xscale("log")
    axis.set_xlabel("searched value")


def _listed(axis: Axes, group: Mapping[str, Sequence[Trial]], look: Mapping[str, Any]) -> None:
    labels: list[str] = []
    for title, trials in group.items():
        chosen = best(trials)
        for each in trials:
            style, place = look[title], len(labels)
            labels.append(f"{each.first.method} {each.setting}")
            if each.mean is None:
                continue
            axis.errorbar(each.mean, place, xerr=_spread([each]), capsize=2, markersize=6, **style)
            if each is chosen:
                axis.plot(each.mean, place, "o", mfc="none", color=style["color"], markersize=13)
    axis.set_yticks(range(len(labels)), map(as_written, labels), fontsize=8)
    axis.set_ylim(len(labels) - 0.4, -0.6)


def _in_order(axis: Axes, group: Mapping[str, Sequence[Trial]], look: Mapping[str, Any]) -> None:
    for title, trials in group.items():
        style, chosen = look[title], best(trials)
        pick = max if registry.described(trials[0].first.task).higher_is_better else min
        known = [(number, each) for number, each in enumerate(trials, 1) if each.mean is not None]
        values = [each.mean for _, each in known]
        axis.errorbar(
            [number for number, _ in known], values, yerr=_spread([each for _, each in known]), capsize=2, markersize=4,
            label=as_written(title), **{**style, "linestyle": ""},
        )  # fmt: skip
        so_far = [pick(values[: count + 1]) for count in range(len(values))]
        axis.step([number for number, _ in known], so_far, where="post", color=style["color"], linewidth=1.2)
        if chosen is not None:
            axis.plot(1 + trials.index(chosen), chosen.mean, "o", mfc="none", color=style["color"], markersize=13)
    axis.set_xlabel("setting, in the order of the search; lines: the best so far")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _spread(trials: Sequence[Trial]) -> list[list[float]] | None:
    """How far the smallest and the largest seed are from the mean; None with one seed."""
    if not trials or len(trials[0].values) < 2:
        return None
    return [[each.mean - min(each.values) for each in trials], [max(each.values) - each.mean for each in trials]]


# layer weights -----------------------------------------------------------------------------------------------------


def plot_layer_weights(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Plot the softmax weight that the head gives each layer as a heat map, one per task.

    Returns:
        Whether any head sees several layers.
    """
    tasks = by_task([each for each in outcomes if each.layer_weights])
    if not tasks:
        return False
    columns = 1 + max(_layer(one) for cells in tasks for each in cells for one in each.layer_weights)
    largest = max(one["weight"] for cells in tasks for each in cells for one in each.layer_weights)
    across = 2 if columns <= 8 else 1
    height = max(1.8, 1.1 + ROW * max(map(len, tasks)))
    figure, axes = tiles(len(tasks), width=9.6 / across, height=height, most=across)
    for axis, cells in zip(axes, tasks, strict=True):
        image = _heat(axis, cells, columns, largest)
        axis.set_title(cells[0].task.title)
    figure.colorbar(image, ax=axes, label="softmax weight")
    save_as(figure, path)
    return True


def _heat(axis: Axes, cells: Sequence[Outcome], columns: int, largest: float) -> Any:
    grid = [[float("nan")] * columns for _ in cells]
    for row, each in zip(grid, cells, strict=True):
        for one in each.layer_weights:
            row[_layer(one)] = one["weight"]
    image = axis.imshow(grid, aspect="auto", cmap="cividis", vmin=0.0, vmax=largest)
    axis.set_facecolor("0.9")
    size = 8 if columns <= 13 else 6
    for place, row in enumerate(grid):
        for column, weight in enumerate(row):
            if weight == weight:  # not nan
                colour = "white" if weight < 0.55 * largest else "black"
                axis.text(column, place, f"{weight:.2f}", ha="center", va="center", fontsize=size, color=colour)
            else:
                axis.text(column, place, "-", ha="center", va="center", fontsize=size, color=GREY)
    axis.set_xticks(range(columns))
    axis.set_yticks(range(len(cells)), [as_written(each.name) for each in cells])
    axis.set_xlabel("encoder layer (0: its input)")
    return image


def _layer(one: Mapping[str, Any]) -> int:
    return int(one["layer"].rsplit(" ", 1)[1])
