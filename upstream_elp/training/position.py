"""How far a training has come: everything that a checkpoint needs in addition to tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upstream_elp.experiment.checkpoint import Checkpoint

_KEPT = ("batch", "skipped", "in_a_row", "overflows", "utterances", "batch_ids", "pending")


@dataclass
class Position:
    """A place between two optimizer steps."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches used in this epoch."""
    skipped: int = 0
    """Steps skipped because something was not finite or did not fit into memory."""
    in_a_row: int = 0
    """Skipped steps in a row."""
    overflows: int = 0
    """Steps of fp16 skipped while the scale of the loss was being found."""
    utterances: int = 0
    """Utterances of this rank since the last log line."""
    records: dict[str, list] = field(default_factory=lambda: defaultdict(list))
    """What the head recorded since the last log line."""
    batch_ids: list[int] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Splits still to be evaluated at this step, because a signal interrupted the evaluation."""

    def entry(self) -> dict[str, Any]:
        """The part of the position that a checkpoint keeps in addition to Step, Epoch and the records."""
        values = {name: getattr(self, name) for name in _KEPT}
        return {name: list(value) if isinstance(value, list) else value for name, value in values.items()}

    def mark(self) -> dict[str, Any]:
        """Remember this position, to come :meth:`back` to it."""
        lengths = {key: len(values) for key, values in self.records.items()}
        return {**self.entry(), "step": self.step, "epoch": self.epoch, "records": lengths}

    def back(self, mark: Mapping[str, Any]) -> None:
        """Go back to where :meth:`mark` was called, and forget what has been recorded since."""
        kept = {key: self.records[key][:length] for key, length in mark["records"].items()}
        for name, value in mark.items():
            setattr(self, name, value)
        self.records = defaultdict(list, kept)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Position:
        """The position in a checkpoint; S3PRL's own checkpoints contain only the step and the epoch."""
        position = cls(step=checkpoint.step or 0, epoch=checkpoint.epoch or 0)
        kept = checkpoint.position or {}
        for name in _KEPT:
            if name in kept:
                setattr(position, name, list(kept[name]) if isinstance(kept[name], list) else kept[name])
        position.records.update({key: list(values) for key, values in (checkpoint.records or {}).items()})
        return position
