"""Learning-rate schedules for S3PRL's ``scheduler`` block; each multiplies every group's own learning rate.

Registered on ``s3prl.schedulers``, so that a task configuration can say::

    scheduler: {name: ELPWarmup, warmup: 0.1, decay: cosine}

    scheduler:
      name: ELPMultipliers
      multipliers: [0.3, 0.5, 0.7, 1.0, 0.6, 0.3]     # one per epoch
      groups: {encoder: [0.0, 0.3, 0.7, 1.0, 0.6, 0.3]}

S3PRL counts optimizer steps. If a schedule is stated in epochs, these divide ``total_steps`` evenly:
``epoch = floor(step * epochs / total_steps)``, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import number, positive_int
from upstream_elp.training.optimizers import group_names

DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""Functions from the share of the steps done since the warm-up (0 to 1) to a factor (1 to 0)."""


class GroupSchedule(LRScheduler):
    """A schedule in which a group's learning rate is its own rate x ``multiplier(name of the group, step)``.

    The rate depends only on the step, so a resumed run has exactly the rates of an uninterrupted one.

    Args:
        optimizer: an optimizer with any groups; those without a ``name`` get the multiplier of None.
        multiplier: maps a group's name and the number of optimizer steps done to a factor.
    """

    def __init__(self, optimizer: Optimizer, multiplier: Callable[[str | None, int], float]) -> None:
        self.multiplier = multiplier
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The learning rate of each group at the current step."""
        return [
            base * self.multiplier(group.get("name"), self.last_epoch)
            for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The step and each group's own rate; the schedule itself comes from the configuration."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "_step_count": self._step_count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume from a step, with its rates in the optimizer; torch would leave those of step 0 there for one step.

        Raises:
            ElpError: if the state belongs to other groups.
        """
        rates = state_dict["base_lrs"]
        if len(rates) != len(self.optimizer.param_groups):
            raise ElpError(
                f"the checkpoint's scheduler has {len(rates)} groups of learning rates, but this run's optimizer has "
                f"{len(self.optimizer.param_groups)}; use the same optimizer block and adapters"
            )
        self.last_epoch, self._step_count = int(state_dict["last_epoch"]), int(state_dict["_step_count"])
        self.base_lrs = list(rates)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def epoch_of(step: int, *, epochs: int, total_steps: int) -> int:
    """The epoch of a step, from 0; steps past the end belong to the last epoch."""
    return min(step * epochs // total_steps, epochs - 1)


def get_ELPWarmup(  # S3PRL looks for get_NAME
    optimizer: Optimizer,
    num_training_steps: int,
    warmup: float = 0,
    decay: str = "linear",
    final: float = 0.0,
) -> GroupSchedule:
    """Linear warm-up to the full rate, then ``decay``, step by step.

    Args:
        optimizer: see :class:`GroupSchedule`.
        num_training_steps: number of steps of the run.
        warmup: steps until the full rate (step ``i`` has ``(i + 1) / warmup`` of it); below 1 a share of all steps.
        decay: constant, linear or cosine.
        final: share of the rate that remains after the last step; no effect with ``constant``.

    Raises:
        ElpError: naming the invalid key.
    """
    total = int(num_training_steps)
    if decay not in DECAYS:
        raise ElpError(f"scheduler.decay must be one of {', '.join(DECAYS)}, but is {shown(decay)}")
    number(warmup, key="scheduler.warmup", least=0)
    number(final, key="scheduler.final", least=0, most=1)
    if warmup >= 1 and warmup != int(warmup):
        raise ElpError(
            f"scheduler.warmup must be a whole number of steps, or a share of all steps below 1, but is {warmup}"
        )
    steps = round(warmup * total) if warmup < 1 else int(warmup)
    if steps > total:
        raise ElpError(f"scheduler.warmup must be at most runner.total_steps ({total}), but is {steps}")

    def multiplier(_: str | None, step: int) -> float:
        if step < steps:
            return (step + 1) / steps
        progress = min(1.0, (step - steps) / max(1, total - steps))
        return final + (1.0 - final) * DECAYS[decay](progress) if decay != "constant" else 1.0

    return GroupSchedule(optimizer, multiplier)


def get_ELPWarmupHoldDecay(  # S3PRL looks for get_NAME
    optimizer: Optimizer,
    num_training_steps: int,
    epochs: int,
    warmup_epochs: int,
    hold_epochs: int = 0,
    scale: float = 10.0,
) -> GroupSchedule:
    """The ASR schedule of the L-E reference (arXiv 2212.02780, its code's train.py), stated in epochs.

    The factor rises linearly from ``1/scale`` to 1 over ``warmup_epochs`` and stays 1 for ``hold_epochs``. Then it is
    ``(1 - (1 - scale**-2) t) / (1 + (scale - 1) t)``, where ``t`` rises from 0 to 1 at epoch ``epochs``, and would end
    at ``scale**-3``. The reference uses 100, 20, 3 and 10.

    Args:
        optimizer: see :class:`GroupSchedule`.
        num_training_steps: number of steps of the run.
        epochs: number of epochs that the steps represent.
        warmup_epochs: epochs with a rising rate; the last of them has the full rate.
        hold_epochs: further epochs with the full rate.
        scale: the warm-up begins at ``1/scale`` of the full rate.

    Raises:
        ElpError: naming the invalid key.
    """
    for key, value, least in (
        ("epochs", epochs, 1),
        ("warmup_epochs", warmup_epochs, 2),
        ("hold_epochs", hold_epochs, 0),
    ):
        positive_int(value, key=f"scheduler.{key}", least=least)
    number(scale, key="scheduler.scale", least=1)
    start = warmup_epochs + hold_epochs
    if start >= epochs:
        raise ElpError(f"scheduler: warmup_epochs + hold_epochs must be less than epochs ({epochs}), but is {start}")

    def multiplier(_: str | None, step: int) -> float:
        epoch = epoch_of(step, epochs=epochs, total_steps=int(num_training_steps))
        if epoch < start:
            return 1.0 - (1.0 - 1.0 / scale) * max(0, warmup_epochs - 1 - epoch) / (warmup_epochs - 1)
        progress = (epoch - start) / (epochs - start)
        return (1.0 - (1.0 - scale**-2) * progress) / (1.0 + (scale - 1.0) * progress)

    return GroupSchedule(optimizer, multiplier)


def get_ELPMultipliers(  # S3PRL looks for get_NAME
    optimizer: Optimizer,
    num_training_steps: int,
    multipliers: Sequence[float],
    groups: Mapping[str, Sequence[float]] | None = None,
) -> GroupSchedule:
    """One multiplier per epoch.

    Args:
        optimizer: see :class:`GroupSchedule`; with ``groups``, one of ELPAdam, ELPAdamW, ELPOptim.
        num_training_steps: number of steps of the run.
        multipliers: one number per epoch; the length is the number of epochs that the steps represent.
        groups: other lists of that length for some groups of the optimizer.

    Raises:
        ElpError: naming the invalid key.
    """
    lists = {"multipliers": multipliers, **{f"groups.{name}": values for name, values in _groups(groups).items()}}
    for key, values in lists.items():
        if not isinstance(values, list | tuple) or not values:
            raise ElpError(f"scheduler.{key} must be a list of numbers, one per epoch, but is {shown(values)}")
        for value in values:
            number(value, key=f"scheduler.{key}", least=0)
        if len(values) != len(multipliers):
            raise ElpError(
                f"scheduler.{key} must have as many epochs as scheduler.multipliers ({len(multipliers)}), but has "
                f"{len(values)}"
            )
    if groups and any("name" not in group for group in optimizer.param_groups):
        raise ElpError("scheduler.groups needs an optimizer with named groups; choose ELPAdam, ELPAdamW or ELPOptim")

    def multiplier(group: str | None, step: int) -> float:
        epoch = epoch_of(step, epochs=len(multipliers), total_steps=int(num_training_steps))
        return lists.get(f"groups.{group}", multipliers)[epoch]

    return GroupSchedule(optimizer, multiplier)


def get_ELPStepDecay(  # S3PRL looks for get_NAME
    optimizer: Optimizer, num_training_steps: int, epochs: int, every: int, factor: float
) -> GroupSchedule:
    """Multiply by ``factor`` every ``every`` epochs, like torch's StepLR called once per epoch.

    Args:
        optimizer: see :class:`GroupSchedule`.
        num_training_steps: number of steps of the run.
        epochs: number of epochs that the steps represent.
        every: epochs between two decays.
        factor: a number from 0 to 1.

    Raises:
        ElpError: naming the invalid key.
    """
    positive_int(epochs, key="scheduler.epochs", least=1)
    positive_int(every, key="scheduler.every", least=1)
    number(factor, key="scheduler.factor", least=0, most=1)

    def multiplier(_: str | None, step: int) -> float:
        return float(factor) ** (epoch_of(step, epochs=epochs, total_steps=int(num_training_steps)) // every)

    return GroupSchedule(optimizer, multiplier)


def _groups(groups: Mapping[str, Any] | None) -> dict[str, Any]:
    if groups is not None and not isinstance(groups, Mapping):
        raise ElpError(f"scheduler.groups must be a block of lists, one per group, but is {shown(groups)}")
    for name in groups or {}:
        if name not in group_names():
            raise ElpError(f"scheduler.groups: unknown group {shown(name)}; the groups are: {', '.join(group_names())}")
    return dict(groups or {})
