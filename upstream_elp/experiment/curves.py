"""The plots of one experiment: learning curves, and the weight of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import LogLocator, NullFormatter

from downstream_heads import registry
from upstream_elp.base.pictures import Axes, as_written, panels, save
from upstream_elp.experiment.logs import Logs

Points = Mapping[int, float | None]
COLUMNS = 3
FEW = 25
"""Largest number of points of a line that get markers."""
WIDE = 20
"""Positive error rates that span more than this factor are drawn on a logarithmic axis."""
NARROW = 4
"""Losses and learning rates that span less are not, as a logarithmic axis would have at most one number."""
LEGEND = 60
"""Characters that fit into a line of a legend."""


@dataclass(frozen=True)
class Panel:
    """One panel: a quantity with its unit, and a line per split or group."""

    label: str
    lines: dict[str, Points]
    log: bool


def plot_curves(logs: Logs, path: Path) -> bool:
    """Loss, one panel per metric, and learning rates over optimizer steps.

    Returns:
        Whether there is anything to draw.
    """
    drawn = _panels(logs)
    if not drawn:
        return False
    columns = min(COLUMNS, len(drawn))
    figure, axes = panels(math.ceil(len(drawn) / columns), columns, width=4.0, height=3.0)
    places = [axis for row in axes for axis in row]
    colors = {split: f"C{index}" for index, split in enumerate(dict.fromkeys(["train", *logs.curves]))}
    last = max(step for panel in drawn for points in panel.lines.values() for step in points)
    for axis, panel in zip(places, drawn, strict=False):
        _draw(axis, panel, colors)
        axis.set_xlim(0, 1.03 * last)  # the same in every panel, also with a single evaluation
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in places[len(drawn) :]:
        axis.set_axis_off()
    save(figure, path)
    return True


def plot_layer_weights(weights: Sequence[tuple[str, float]], path: Path, *, title: str) -> None:
    """One bar per layer, from the bottom layer on the left to the top layer on the right.

    Args:
        weights: names such as ``L-adapter 3`` (all of one kind) with their softmax weights.
        path: PNG file.
        title: the adapter and its task.
    """
    kind = weights[0][0].rsplit(" ", 1)[0]
    figure, axes = panels(1, 1, width=max(4.0, 0.32 * len(weights) + 1.5), height=3.0)
    axis = axes[0][0]
    axis.bar([name.rsplit(" ", 1)[1] for name, _ in weights], [weight for _, weight in weights], width=0.8)
    axis.axhline(1 / len(weights), color="black", linewidth=0.8, linestyle=":", label=f"uniform (1/{len(weights)})")
    axis.set_xlabel(
        "encoder layer of the L-adapter" if kind == "L-adapter" else f"{kind} (0: input of the first layer)"
    )
    axis.set_ylabel("softmax weight")
    axis.set_title(as_written(title), fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_ylim(0, 1.25 * max(weight for _, weight in weights))
    axis.legend(fontsize=8, loc="upper right")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    save(figure, path)


def _panels(logs: Logs) -> list[Panel]:
    losses = {split: values["loss"] for split, values in logs.curves.items() if "loss" in values and split != "train"}
    steps = {line["step"]: line.get("loss") for line in logs.train}
    train = steps or logs.curves.get("train", {}).get("loss", {})
    every: dict[str, Points] = {**({"train": train} if train else {}), **losses}
    drawn = [Panel("loss", every, log=_span(every) > NARROW)] if every else []
    for name in dict.fromkeys(name for values in logs.curves.values() for name in values if name != "loss"):
        metric = registry.metric(name)
        lines: dict[str, Points] = {split: values[name] for split, values in logs.curves.items() if name in values}
        label = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        drawn.append(Panel(label, lines, log=metric.higher_is_better is False and _span(lines) > WIDE))
    rates = _rates(logs)
    return [*drawn, Panel("learning rate", rates, log=_span(rates) > NARROW)] if rates else drawn


def _rates(logs: Logs) -> dict[str, Points]:
    """Learning rate per group; groups with the same rates share a line."""
    rates: dict[str, dict[int, float | None]] = {}
    for line in logs.train:
        for group, rate in (line.get("lr") or {}).items():
            rates.setdefault(group, {})[line["step"]] = rate or None  # a logarithmic axis cannot show a rate of 0
    equal: dict[tuple, list[str]] = {}
    for group, points in rates.items():
        equal.setdefault(tuple(points.items()), []).append(group)
    if len(equal) == 1:  # also where S3PRL's optimizers do not name their groups
        return {"all that is trained": dict(next(iter(equal)))}
    return {", ".join(groups): dict(points) for points, groups in equal.items()}


def _draw(axis: Axes, panel: Panel, colors: Mapping[str, str]) -> None:
    """Draw the lines, with one colour per split in all panels and the legend above, where it hides nothing."""
    for name, points in panel.lines.items():
        steps = sorted(points)
        values = [math.nan if points[step] is None else points[step] for step in steps]
        marker, color = "o" if len(steps) <= FEW else "", colors.get(name)
        axis.plot(steps, values, marker=marker, markersize=3, linewidth=1.2, label=name, color=color)
    axis.set_yscale("log" if panel.log else "linear")
    if panel.log and _span(panel.lines) < 1000:  # with powers of ten only, a short axis would have no number
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    if len(values := set(_values(panel.lines))) == 1 and not panel.log:  # matplotlib would magnify rounding errors
        (value,) = values
        axis.set_ylim(*sorted((0, 1.25 * value or 1)))
    axis.set_xlabel("optimizer step")
    axis.set_ylabel(panel.label)
    axis.grid(alpha=0.3, which="both" if panel.log else "major")
    columns = max(1, LEGEND // (8 + max(len(name) for name in panel.lines)))  # 8: the line itself, and space
    axis.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def _values(lines: Mapping[str, Points]) -> list[float]:
    return [value for points in lines.values() for value in points.values() if value is not None]


def _positive(lines: Mapping[str, Points]) -> bool:
    return min(_values(lines), default=0) > 0


def _span(lines: Mapping[str, Points]) -> float:
    """The largest value divided by the smallest; 0 if one is not positive."""
    return max(_values(lines)) / min(_values(lines)) if _positive(lines) else 0.0
