"""Write the results of S3PRL's own tasks, which only go to TensorBoard, into ``metrics.jsonl``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from downstream_heads import stock
from upstream_elp.base.files import append_line
from upstream_elp.experiment.logs import METRICS_LOG, finite
from upstream_elp.statistics import Items, estimate, items_path, save_items
from upstream_elp.training.writer import Writer

_ABOUT = ("split", "step", "checkpoint", "checkpoint_step")
"""Keys of a line in ``metrics.jsonl`` that the file of the utterances repeats."""


def log_records(
    head: Any,
    split: str,
    *,
    logger: Writer,
    global_step: int,
    folder: Path,
    items: int,
    of: dict[str, Any] | None = None,
    **others: Any,
) -> Any:
    """Let a head log its records, and append a line with its TensorBoard values if it writes no line itself.

    Names and units are the task's own (an accuracy may be a fraction): ``fluent_commands/dev-acc`` is the metric
    ``fluent_commands/acc`` of ``dev``, so it cannot be mistaken for a metric of our tasks. The loss is ``loss``. Tasks
    in :data:`downstream_heads.stock.STOCK` have their own metrics in per cent in addition, such as ``acc``, and the
    result of every recording in ``items-<split>.csv``, except for the split that they train on.

    Args:
        head: S3PRL's downstream expert.
        split: the split, such as ``dev``.
        logger: TensorBoard's writer.
        global_step: the step of the training; 0 for an evaluation from the command line.
        folder: the experiment folder.
        items: number of utterances behind the values.
        of: more keys for the line, such as the evaluated checkpoint.
        others: what else S3PRL passes to ``log_records``.

    Returns:
        What the head returns: names under which the state is to be saved.
    """
    with logger.collected() as values:
        names = head.log_records(split, logger=logger, global_step=global_step, **others)
    if values and not hasattr(head, "evaluated_checkpoint"):  # our tasks write more themselves
        metrics = {_name(tag, split): finite(value) for tag, value in values.items()}
        line = {"split": split, "step": global_step, "items": items, "metrics": metrics, **(of or {})}
        task = stock.of(head)
        if task is not None and split != "train":
            about = {"task": task.name, **{key: line[key] for key in _ABOUT if key in line}}
            found = Items(*task.results(head, split, others["records"]), about=about)
            save_items(items_path(folder, split), found)
            metrics |= {name: estimate(found, name) for name in task.metrics}
        line["time"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        append_line(folder / METRICS_LOG, json.dumps(line))
    return names


def _name(tag: str, split: str) -> str:
    group, _, name = tag.rpartition("/")
    name = name.removeprefix(f"{split}-")
    return name if name == "loss" or not group else f"{group}/{name}"
