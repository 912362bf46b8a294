"""Pictures without a display, written in one step."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from upstream_elp.base.files import whole_file

mpl.use("Agg")  # no display is needed to write files
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs a line for every axis with names


HANDLE, CHARACTER = 0.65, 0.085
"""Inches of a line and a character of a legend."""


def panels(rows: int, columns: int, *, width: float = 3.2, height: float = 2.6) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of ``rows`` x ``columns`` panels; sizes are in inches per panel."""
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, constrained_layout=True)
    return figure, [list(row) for row in axes]


def as_written(name: str) -> str:
    """Escape a name for a title or legend; matplotlib reads text between two dollar signs as a formula."""
    return name.replace("$", r"\$")


def tiles(count: int, *, width: float = 3.2, height: float = 2.8, most: int = 3) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels in rows of at most ``most``; sizes are in inches per panel."""
    columns = min(most, count) if count != most + 1 else math.ceil(count / 2)  # four: two and two
    figure, axes = panels(math.ceil(count / columns), columns, width=width, height=height)
    places = [axis for row in axes for axis in row]
    for axis in places[count:]:
        axis.set_axis_off()
    return figure, places[:count]


def legend_below(figure: Figure, axes: Axes | Sequence[Axes], *, columns: int = 5) -> None:
    """Add one legend for all panels, from the lines of one or several of them; each label once.

    There are at most ``columns`` labels in a row, and as many as fit into the width of the figure.
    """
    known: dict[str, Artist | Container] = {}
    for axis in [axes] if isinstance(axes, Axes) else axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if known:
        labels = list(known)
        fit = int(figure.get_size_inches()[0] / (HANDLE + CHARACTER * max(map(len, labels))))
        figure.legend(known.values(), labels, loc="outside lower center", ncols=max(1, min(columns, len(labels), fit)))


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure as PNG in one step, and free its memory."""
    save_as(figure, Path(path), formats=("png",))


def save_as(figure: Figure, path: Path, *, formats: Sequence[str] = ("png", "svg", "pdf")) -> None:
    """Write the figure in several formats, each in one step, and free its memory.

    The same figure gives the same bytes: the files contain neither the date nor random ids. Fonts are embedded.

    Args:
        figure: what to write.
        path: the file; its ending is replaced by each format's.
        formats: of matplotlib.
    """
    no_date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    try:
        with mpl.rc_context({"svg.hashsalt": path.stem, "pdf.fonttype": 42}):
            for form in formats:
                with whole_file(path.with_suffix(f".{form}"), "wb") as file:
                    figure.savefig(file, dpi=150, format=form, metadata=no_date.get(form))
                figure.set_layout_engine(None)  # the first format has arranged everything, which takes half the time
    finally:
        plt.close(figure)
