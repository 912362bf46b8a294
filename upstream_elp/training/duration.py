"""How long a training is: in steps, or in epochs of whatever number of batches the corpus has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import IterableDataset

from upstream_elp.base import randomness
from upstream_elp.base.epochs import LAST, epochs_of
from upstream_elp.base.errors import ElpError
from upstream_elp.training.batches import epoch_loader


def check_stock_loop(block: Mapping[str, Any]) -> None:
    """Refuse what S3PRL's loop does not understand.

    Raises:
        ElpError: naming the keys.
    """
    if block.get("trackers"):
        raise ElpError("--stock-loop: runner.trackers must be empty, as S3PRL's loop only knows TensorBoard; remove it")
    if epochs_of(block.get("total_steps")) or block.get("eval_step") == LAST:
        raise ElpError(
            "--stock-loop: runner.total_steps and runner.eval_step must be numbers of steps for S3PRL's loop, but are "
            f"{block.get('total_steps')!r} and {block.get('eval_step')!r}; change them, or remove the flag"
        )


def in_steps(block: Mapping[str, Any], expert: Any, split: str, *, seed: int) -> dict[str, Any]:
    """Return the runner block with ``total_steps`` and ``eval_step`` as numbers of steps.

    Args:
        block: the runner block.
        expert: S3PRL's downstream expert.
        split: the split to train on.
        seed: the run's seed.

    Raises:
        ElpError: the number of steps of an epoch is not known, or the epochs are less than a step.
    """
    epochs = epochs_of(block["total_steps"])
    total = int(block["total_steps"]) if epochs is None else _steps(block, expert, split, epochs=epochs, seed=seed)
    return {**block, "total_steps": total, **({"eval_step": total} if block["eval_step"] == LAST else {})}


def _steps(block: Mapping[str, Any], expert: Any, split: str, *, epochs: int, seed: int) -> int:
    """Count the batches of every epoch, as batches by length differ in number from epoch to epoch."""
    batches = 0
    with randomness.preserved():
        for epoch in range(epochs):
            loader = epoch_loader(expert, split, epoch=epoch, seed=seed)
            if isinstance(loader.dataset, IterableDataset):
                raise ElpError(
                    "config key runner.total_steps must be a number of steps for this task, whose epochs have no known "
                    f"length, but is {block['total_steps']!r}; change it"
                )
            batches += len(loader)
    accumulated = int(block["gradient_accumulate_steps"])
    if batches < accumulated:
        raise ElpError(
            f"config key runner.total_steps must be at least one step long, but is {block['total_steps']!r}, which is "
            f"{batches} batches, fewer than runner.gradient_accumulate_steps ({accumulated}); raise it"
        )
    return batches // accumulated
