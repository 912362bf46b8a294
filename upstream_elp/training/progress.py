"""What a person sees while a run trains: the bar's figures, and what is told once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensorboardX import SummaryWriter

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.training.record import ranks

if TYPE_CHECKING:
    from upstream_elp.training.loop import Training

EVERY = 10
"""Steps between two updates of the bar's figures."""
NAMED = 3
"""Tensors that a message names before it counts the rest."""


class Writer(SummaryWriter):
    """TensorBoard's writer; it remembers the last value of every scalar."""

    def __init__(self, folder: str, *, purge_step: int | None = None) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.latest: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: Any, *args: Any, **kwargs: Any) -> None:
        """Write a value; see tensorboardX."""
        self.latest[tag] = float(scalar_value)
        super().add_scalar(tag, scalar_value, *args, **kwargs)

    @contextmanager
    def collected(self) -> Iterator[dict[str, float]]:
        """The scalars that are written within this context."""
        before, self.latest = self.latest, {}
        try:
            yield self.latest
        finally:
            self.latest = {**before, **self.latest}


def figures(training: Training) -> dict[str, str]:
    """Loss, the head's learning rate, the last evaluation's first metric, and speed, for the progress bar."""
    rates = training.rates
    seconds = max(training.unlogged_seconds, 1e-9)
    return {
        "loss": f"{training.loss:.3g}",
        "lr": f"{rates.get('head', max(rates.values())):.2g}",
        **metric(training.logger.latest, training.block["eval_dataloaders"]),
        "utt/s": f"{training.position.utterances * ranks() / seconds:.1f}",
    }


def metric(latest: dict[str, float], splits: Sequence[str]) -> dict[str, str]:
    """The first metric of the first split that has one; tasks write ``<task>/<split>-<metric>``."""
    for split in splits:
        for tag, value in latest.items():
            name = tag.rpartition("/")[2]
            if name.startswith(f"{split}-") and not name.endswith("loss"):
                return {name: f"{value:.4g}"}
    return {}


def unreached(training: Training) -> str | None:
    """What of featurizer and head has no gradient before the first update, in a sentence.

    The upstream is left out: its self-check has looked.
    """
    names = [
        f"{entry.name}.{name}"
        for entry in training.runner.all_entries
        if entry.trainable and entry.name != "Upstream"
        for name, parameter in unwrapped(entry.model).named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if not names:
        return None
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"no gradient reaches {', '.join(names[:NAMED])}{more} in the first step, so that they may stay untrained"
