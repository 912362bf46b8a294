"""The two plots of a report: learning curves and layer weights."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from upstream_elp.base.pictures import as_written, legend_below, panels, save
from upstream_elp.quickstart.jobs import TASKS


def plot_curves(curves: pd.DataFrame, path: Path) -> None:
    """Plot the train loss above the dev metric, with one column per task and one line per method.

    Args:
        curves: columns task, method, what (``train loss`` or ``dev ... (%)``), step, value.
        path: PNG file.
    """
    tasks = [task for task in TASKS if task in set(curves["task"])]
    figure, axes = panels(2, len(tasks))
    for column, task in enumerate(tasks):
        of_task = curves[curves["task"] == task]
        for row, is_loss in enumerate((True, False)):
            axis = axes[row][column]
            shown = of_task[(of_task["what"] == "train loss") == is_loss]
            for method, line in shown.groupby("method", sort=False):
                axis.plot(
                    line["step"], line["value"], marker="" if is_loss else "o", markersize=4, label=as_written(method)
                )
            axis.set_title(TASKS[task].title if is_loss else "")
            axis.set_ylabel(shown["what"].iloc[0] if len(shown) else "")
            axis.set_xlabel("" if is_loss else "optimizer step")
            axis.grid(alpha=0.3)
    legend_below(figure, axes[0][0])
    save(figure, path)


def plot_layer_weights(weights: pd.DataFrame, path: Path) -> None:
    """Plot the softmax weight that the head gives each layer, one panel per task.

    Args:
        weights: columns task, method, layer, weight.
        path: PNG file.
    """
    tasks = [task for task in TASKS if task in set(weights["task"])]
    figure, axes = panels(1, len(tasks), height=3)
    for axis, task in zip(axes[0], tasks, strict=True):
        groups = list(weights[weights["task"] == task].groupby("method", sort=False))
        width = 0.8 / len(groups)
        for index, (method, bars) in enumerate(groups):
            axis.bar(
                bars["layer"] + (index - (len(groups) - 1) / 2) * width, bars["weight"], width, label=as_written(method)
            )
        axis.set_title(TASKS[task].title)
        axis.set_xlabel("encoder layer (0: its input)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("softmax weight")
    legend_below(figure, axes[0][0])
    save(figure, path)
