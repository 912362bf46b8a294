"""Results of S3PRL's own tasks, which they give to TensorBoard alone, as lines of ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from upstream_elp.training.logs import METRICS_LOG


class Scalars:
    """A logger that hands everything on and keeps the scalars.

    Args:
        logger: TensorBoard's writer.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.values: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: Any, *args: Any, **kwargs: Any) -> None:
        """Write a value; see tensorboardX."""
        self.values[tag] = float(scalar_value)
        self.logger.add_scalar(tag, scalar_value, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logger, name)


def tells(head: Any) -> bool:
    """Whether a head writes ``metrics.jsonl`` itself, as ours do."""
    return hasattr(head, "evaluated_checkpoint")


def append(
    folder: Path, split: str, step: int, values: dict[str, float], *, items: int, of: dict[str, Any] | None = None
) -> None:
    """Append a line with the values that a task wrote for a split; none if it wrote none.

    Names and units are the task's own (an accuracy may be a fraction): ``fluent_commands/dev-acc`` is the metric
    ``fluent_commands/acc`` of ``dev``, which no metric of our tasks is mistaken for. The loss is ``loss``.

    Args:
        folder: the experiment directory.
        split: such as ``dev``.
        step: of the training, 0 for an evaluation from the command line.
        values: TensorBoard's tags and values.
        items: how many utterances they rest on.
        of: more keys, such as the evaluated checkpoint.
    """
    metrics = {_name(tag, split): value if math.isfinite(value) else None for tag, value in values.items()}
    if not metrics:
        return
    line = {"split": split, "step": step, "items": items, "metrics": metrics, **(of or {})}
    line["time"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with (folder / METRICS_LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _name(tag: str, split: str) -> str:
    group, _, name = tag.rpartition("/")
    name = name.removeprefix(f"{split}-")
    return name if name == "loss" or not group else f"{group}/{name}"
