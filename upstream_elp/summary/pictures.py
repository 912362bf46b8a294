"""The pictures of outcomes: error against trained parameters, learning curves, layer weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from upstream_elp.base.pictures import as_written, legend_below, panels, save
from upstream_elp.summary.outcomes import Outcome
from upstream_elp.summary.tables import heading

#: Okabe and Ito's colours and different markers, so that methods can be told apart without seeing colours
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
LINEAR = 1000
"""Trained parameters up to which the axis is linear, so that it has a zero."""
MARKERS = ("x", "o", "s", "^", "D", "v", "P", "*")


def styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """A colour and a marker for each method."""
    return {
        name: {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        for number, name in enumerate(dict.fromkeys(names))
    }


def plot_sizes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot the value against the trained parameters, one panel per task, with bars of one standard error."""
    look = styles([each.name for each in outcomes])
    tasks = list(dict.fromkeys(each.first.task for each in outcomes))
    figure, axes = panels(1, len(tasks), height=3.2)
    for axis, name in zip(axes[0], tasks, strict=True):
        found = [each for each in outcomes if each.first.task == name]
        for each, place in zip(found, _places(found), strict=True):
            axis.errorbar(
                place, each.value.value, yerr=each.value.se, linestyle="", markersize=6, capsize=2,
                label=as_written(each.name), **look[each.name],
            )  # fmt: skip
        axis.set_xscale("symlog", linthresh=LINEAR)
        powers = (10**power for power in range(3, 11))
        axis.set_xticks([0, *(power for power in powers if power <= 3 * max(each.trained for each in found))])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(left=-LINEAR / 2)
        axis.set_title(heading(found[0].task))
        _chance(axis, found[0])
        axis.grid(alpha=0.3)
        axis.set_xlabel("parameters trained in the backbone")
    legend_below(figure, axes[0][0])
    save(figure, path)


def _places(found: Sequence[Outcome]) -> list[float]:
    """The numbers of trained parameters; cells without any stand next to each other around zero."""
    nothing = [each for each in found if not each.trained]
    shift = {id(each): LINEAR * (index - (len(nothing) - 1) / 2) / 4 for index, each in enumerate(nothing)}
    return [shift.get(id(each), each.trained) for each in found]


def _chance(axis: Axes, outcome: Outcome) -> None:
    """Draw the value of a trivial answer if it is not far away from the others."""
    low, high = axis.get_ylim()
    if outcome.chance is not None and low - (high - low) < outcome.chance < high + (high - low):
        axis.axhline(outcome.chance, linestyle=":", linewidth=1, color="0.4")
        axis.annotate("chance", (0.99, outcome.chance), xycoords=("axes fraction", "data"), ha="right", va="bottom")


def plot_curves(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot the train loss above the dev metric: a column per task, a line per method (the mean over seeds)."""
    look = styles([each.name for each in outcomes])
    tasks = list(dict.fromkeys(each.first.task for each in outcomes))
    figure, axes = panels(2, len(tasks))
    for column, name in enumerate(tasks):
        found = [each for each in outcomes if each.first.task == name]
        for each in found:
            points = pd.DataFrame(each.curves(), columns=["seed", "what", "step", "value"])
            for row, is_loss in enumerate((True, False)):
                axis = axes[row][column]
                shown = points[(points["what"] == "train loss") == is_loss]
                line = shown.groupby("step")["value"].mean()
                style = {**look[each.name], "marker": "" if is_loss else look[each.name]["marker"]}
                axis.plot(line.index, line.values, markersize=4, label=as_written(each.name), **style)
                axis.set_ylabel(shown["what"].iloc[0] if len(shown) else "")
                axis.grid(alpha=0.3)
        axes[0][column].set_title(found[0].task.title)
        axes[1][column].set_xlabel("optimizer step")
    legend_below(figure, axes[0][0])
    save(figure, path)


def plot_layer_weights(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Plot the softmax weight that the head gives each layer, one panel per task; False if no head sees several."""
    found = [each for each in outcomes if each.layer_weights]
    tasks = list(dict.fromkeys(each.first.task for each in found))
    if not tasks:
        return False
    look = styles([each.name for each in outcomes])
    figure, axes = panels(1, len(tasks), height=3)
    for axis, name in zip(axes[0], tasks, strict=True):
        shown = [each for each in found if each.first.task == name]
        width = 0.8 / len(shown)
        for index, each in enumerate(shown):
            layers = [int(one["layer"].rsplit(" ", 1)[1]) for one in each.layer_weights]
            places = [layer + (index - (len(shown) - 1) / 2) * width for layer in layers]
            weights = [one["weight"] for one in each.layer_weights]
            axis.bar(places, weights, width, label=as_written(each.name), color=look[each.name]["color"])
        axis.set_title(shown[0].task.title)
        axis.set_xlabel("encoder layer (0: its input)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("softmax weight")
    legend_below(figure, axes[0][0])
    save(figure, path)
    return True
