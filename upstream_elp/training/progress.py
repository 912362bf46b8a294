"""What a person sees during training: the figures in the progress bar, and a warning before the first update."""

from __future__ import annotations

from collections.abc import Sequence

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.experiment.checkpoint import UPSTREAM
from upstream_elp.training.collectives import ranks
from upstream_elp.training.run_state import RunState

EVERY = 10
"""Steps between two updates of the figures."""
NAMED = 3
"""Tensors that a message names before it counts the rest."""


def figures(state: RunState) -> dict[str, str]:
    """Loss, the head's learning rate, the last evaluation's first metric, and speed, for the progress bar."""
    rates = state.rates
    seconds = max(state.unlogged_seconds, 1e-9)
    return {
        "loss": f"{state.loss:.3g}",
        "lr": f"{rates.get('head', max(rates.values())):.2g}",
        **metric(state.logger.latest, state.block["eval_dataloaders"]),
        "utt/s": f"{state.position.utterances * ranks() / seconds:.1f}",
    }


def metric(latest: dict[str, float], splits: Sequence[str]) -> dict[str, str]:
    """The first metric of the first split that has one; tasks write ``<task>/<split>-<metric>``."""
    for split in splits:
        for tag, value in latest.items():
            name = tag.rpartition("/")[2]
            if name.startswith(f"{split}-") and not name.endswith("loss"):
                return {name: f"{value:.4g}"}
    return {}


def unreached(state: RunState) -> str | None:
    """Name the tensors of featurizer and head without a gradient before the first update, in a sentence.

    The upstream is not included, as its self-check covers it.
    """
    names = [
        f"{entry.name}.{name}"
        for entry in state.entries
        if entry.trainable and entry.name != UPSTREAM
        for name, parameter in unwrapped(entry.model).named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if not names:
        return None
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"no gradient reaches {', '.join(names[:NAMED])}{more} in the first step, so they may stay untrained"
