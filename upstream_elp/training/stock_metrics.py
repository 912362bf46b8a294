"""Results of S3PRL's own tasks, which they give to TensorBoard alone, as lines of ``metrics.jsonl``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from upstream_elp.base.files import append_line
from upstream_elp.experiment.logs import METRICS_LOG, finite
from upstream_elp.training.writer import Writer


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
    """Let a head log what it recorded; for one that writes no line itself, append one with what it gave to TensorBoard.

    Names and units are the task's own (an accuracy may be a fraction): ``fluent_commands/dev-acc`` is the metric
    ``fluent_commands/acc`` of ``dev``, which no metric of our tasks is mistaken for. The loss is ``loss``.

    Args:
        head: S3PRL's downstream expert.
        split: such as ``dev``.
        logger: TensorBoard's writer.
        global_step: of the training, 0 for an evaluation from the command line.
        folder: the experiment directory.
        items: how many utterances the values rest on.
        of: more keys of the line, such as the evaluated checkpoint.
        others: what else S3PRL gives to ``log_records``.

    Returns:
        What the head returns: names under which the state shall be saved.
    """
    with logger.collected() as values:
        names = head.log_records(split, logger=logger, global_step=global_step, **others)
    if values and not hasattr(head, "evaluated_checkpoint"):  # ours tell more themselves
        metrics = {_name(tag, split): finite(value) for tag, value in values.items()}
        line = {"split": split, "step": global_step, "items": items, "metrics": metrics, **(of or {})}
        line["time"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        append_line(folder / METRICS_LOG, json.dumps(line))
    return names


def _name(tag: str, split: str) -> str:
    group, _, name = tag.rpartition("/")
    name = name.removeprefix(f"{split}-")
    return name if name == "loss" or not group else f"{group}/{name}"
