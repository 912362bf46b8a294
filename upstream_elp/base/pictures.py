"""Pictures without a display, written in one step."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import matplotlib as mpl

from upstream_elp.base.files import whole_file

mpl.use("Agg")  # no display is needed to write files
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs a line for every axis with names


def panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.6) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of ``rows`` x ``columns`` panels; sizes are in inches per panel."""
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, constrained_layout=True)
    return figure, [list(row) for row in axes]


def as_written(name: str) -> str:
    """Escape a name for a title or legend; matplotlib reads text between two dollar signs as a formula."""
    return name.replace("$", r"\$")


def legend_below(figure: Figure, axis: Axes) -> None:
    """Add one legend for all panels, from the lines of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(labels)))


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure as PNG in one step, and free its memory."""
    try:
        with whole_file(Path(path), "wb") as file:
            figure.savefig(file, dpi=150, format="png")
    finally:
        plt.close(figure)
