"""How far a training has come: everything that a checkpoint needs beside the tensors."""

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
    """Batches of the epoch that were used."""
    skipped: int = 0
    """Steps that were left out because something was not finite or did not fit into memory."""
    in_a_row: int = 0
    overflows: int = 0
    """Steps of fp16 that were left out while the scale of the loss was found."""
    utterances: int = 0
    """Of this rank, since the last log line."""
    records: dict[str, list] = field(default_factory=lambda: defaultdict(list))
    """What the head recorded since the last log line."""
    batch_ids: list[int] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Splits that are still to be evaluated at this step, since a signal broke the evaluation off."""

    def entry(self) -> dict[str, Any]:
        """What a checkpoint holds of it beside S3PRL's own Step and Epoch, and the records."""
        values = {name: getattr(self, name) for name in _KEPT}
        return {name: list(value) if isinstance(value, list) else value for name, value in values.items()}

    def mark(self) -> dict[str, Any]:
        """Where this is now, to come :meth:`back` to."""
        lengths = {key: len(values) for key, values in self.records.items()}
        return {**self.entry(), "step": self.step, "epoch": self.epoch, "records": lengths}

    def back(self, mark: Mapping[str, Any]) -> None:
        """Go back to where :meth:`mark` was called; what has been recorded since is forgotten."""
        kept = {key: self.records[key][:length] for key, length in mark["records"].items()}
        for name, value in mark.items():
            setattr(self, name, value)
        self.records = defaultdict(list, kept)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Position:
        """The position in a checkpoint; S3PRL's own know only the step and the epoch."""
        position = cls(step=checkpoint.step or 0, epoch=checkpoint.epoch or 0)
        kept = checkpoint.position or {}
        for name in _KEPT:
            if name in kept:
                setattr(position, name, list(kept[name]) if isinstance(kept[name], list) else kept[name])
        position.records.update({key: list(values) for key, values in (checkpoint.records or {}).items()})
        return position
