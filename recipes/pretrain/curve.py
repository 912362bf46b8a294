"""The picture of a run: accuracies of masked and unmasked frames, and the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from losses import GOALS

from upstream_elp.base.pictures import legend_below, panels, save


def draw_curve(rows: list[dict[str, Any]], path: Path) -> None:
    """Write `curve.png` from the lines of a log; nothing is drawn without lines."""
    if not rows:
        return
    figure, [[masked, unmasked, loss]] = panels(1, 3)
    for axis, ending, title in ((masked, "", "masked frames"), (unmasked, "_u", "unmasked frames")):
        for name in GOALS:
            points = [(row["step"], 100 * row[name + ending]) for row in rows if name + ending in row]
            if not points:
                continue
            axis.plot([x for x, _ in points], [y for _, y in points], label=name)
        axis.set(title=title, xlabel="step", ylabel="accuracy (%)")
    loss.plot([row["step"] for row in rows], [row["loss"] for row in rows], color="black")
    loss.set(title="training loss", xlabel="step")
    legend_below(figure, masked)
    save(figure, path)
