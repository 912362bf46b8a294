"""The picture of peers.py: ratios to S3PRL's frozen step, and time against the length of the waves."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from peers_tables import Results

BAR = 0.8
"""Height of all bars of a row, in rows."""


def draw(results: Results, path: Path) -> None:
    """Draw one panel per measured part."""
    from upstream_elp.base.pictures import panels, save

    parts: dict[str, Callable[[Results, Axes], None]] = {"table": _ratios, "length": _lengths, "size": _sizes}
    shown = [part for part in parts if results.of(part)]
    figure, axes = panels(1, len(shown), width=5.4, height=4.4)
    for part, axis in zip(shown, axes[0], strict=True):
        parts[part](results, axis)
    save(figure, path)


def _bars(results: Results, axis: Axes, part: str, kind: str) -> None:
    """Draw horizontal bars of a part's time relative to S3PRL's frozen fp32 step, one colour per ``kind``."""
    from peers_tables import BASE

    cases = results.of(part)
    rows = list(dict.fromkeys(case.row for case in cases))
    kinds = list(dict.fromkeys(getattr(case, kind) for case in cases))
    height = BAR / len(kinds)
    for number, each in enumerate(kinds):
        chosen = [case for case in cases if getattr(case, kind) == each]
        ratios = {case.row: results.ratios(case, case._replace(row=BASE, precision="fp32")) for case in chosen}
        ratios = {row: values for row, values in ratios.items() if values}
        places = [rows.index(row) - BAR / 2 + (number + 0.5) * height for row in ratios]
        axis.barh(places, [statistics.median(values) for values in ratios.values()], height, label=each)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xlabel("time of a step / S3PRL's frozen fp32 step")
    axis.legend(fontsize=8)


def _ratios(results: Results, axis: Axes) -> None:
    _bars(results, axis, "table", "precision")
    axis.set_title(f"Steps of {results.of('table')[0].shape}", fontsize=10)


def _sizes(results: Results, axis: Axes) -> None:
    _bars(results, axis, "size", "size")
    axis.set_title("Sizes of the backbone, fp32", fontsize=10)
    axis.set_xlabel("time of a step / S3PRL's frozen step of that size")


def _lengths(results: Results, axis: Axes) -> None:
    cases = results.of("length")
    for row in dict.fromkeys(case.row for case in cases):
        points = sorted(
            (case.seconds, statistics.median(results.values(case, "step")) / case.audio)
            for case in cases
            if case.row == row
        )
        best = {length: min(value for at, value in points if at == length) for length, _ in points}
        axis.plot(list(best), list(best.values()), marker="o", markersize=3, label=row)
    axis.set_ylim(bottom=0)
    axis.set_title("Length of the waves, fp32", fontsize=10)
    axis.set_xlabel("seconds per wave")
    axis.set_ylabel("seconds per second of audio")
    axis.legend(fontsize=8)
