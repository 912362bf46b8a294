"""Learning-rate schedules for S3PRL's ``scheduler`` block; each multiplies every group's own learning rate.

Registered on ``s3prl.schedulers``, so that a task configuration can say::

    scheduler: {name: ELPWarmup, warmup: 0.1, decay: cosine}

    scheduler:
      name: ELPMultipliers
      multipliers: [0.3, 0.5, 0.7, 1.0, 0.6, 0.3]     # one per epoch
      groups: {encoder: [0.0, 0.3, 0.7, 1.0, 0.6, 0.3]}

S3PRL counts optimizer steps. Where a schedule is stated in epochs, ``total_steps`` stands for all of them:
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
"""From the share of the steps after the warm-up (0 to 1) to the share of the way that is left (1 to 0)."""


class GroupSchedule(LRScheduler):
    """Learning rate of a group = its own rate x ``multiplier(name of the group, step)``.

    The rate depends on the step alone, so a run that goes on has bit by bit the rates of one that was never stopped.

    Args:
        optimizer: with any groups; those without a ``name`` get the multiplier of None.
        multiplier: from a group's name and the number of optimizer steps done to a factor.
    """

    def __init__(self, optimizer: Optimizer, multiplier: Callable[[str | None, int], float]) -> None:
        self.multiplier = multiplier
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The learning rate of each group at the present step."""
        return [
            base * self.multiplier(group.get("name"), self.last_epoch)
            for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the step and each group's own rate; the schedule itself comes from the configuration."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "_step_count": self._step_count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a step, with its rates in the optimizer; torch's own would leave those of step 0 for one step.

        Raises:
            ElpError: if the state is of other groups.
        """
        rates = state_dict["base_lrs"]
        if len(rates) != len(self.optimizer.param_groups):
            raise ElpError(
                f"the checkpoint's scheduler has {len(rates)} groups of learning rates, this run's optimizer "
                f"{len(self.optimizer.param_groups)}; use the same optimizer block and adapters"
            )
        self.last_epoch, self._step_count = int(state_dict["last_epoch"]), int(state_dict["_step_count"])
        self.base_lrs = list(rates)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def epoch_of(step: int, *, epochs: int, total_steps: int) -> int:
    """The epoch that a step lies in, from 0; steps past the end count to the last one."""
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
        num_training_steps: all steps of the run.
        warmup: steps until the full rate (step ``i`` has ``(i + 1) / warmup`` of it); below 1 a share of all steps.
        decay: constant, linear or cosine.
        final: share of the rate that is reached when all steps are done; no effect with ``constant``.

    Raises:
        ElpError: naming the key that is wrong.
    """
    total = int(num_training_steps)
    if decay not in DECAYS:
        raise ElpError(f"scheduler.decay is {shown(decay)}; choose one of: {', '.join(DECAYS)}")
    number(warmup, key="scheduler.warmup", least=0)
    number(final, key="scheduler.final", least=0, most=1)
    if warmup >= 1 and warmup != int(warmup):
        raise ElpError(f"scheduler.warmup is {warmup}; give whole steps, or a share of all steps below 1")
    steps = round(warmup * total) if warmup < 1 else int(warmup)
    if steps > total:
        raise ElpError(f"scheduler.warmup has {steps} steps, more than the {total} of runner.total_steps")

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

    From ``1/scale`` linearly to 1 over ``warmup_epochs``, 1 for ``hold_epochs``, and then with ``t`` from 0 to 1 at
    epoch ``epochs`` the factor ``(1 - (1 - scale**-2) t) / (1 + (scale - 1) t)``, which would end at ``scale**-3``. The
    reference has 100, 20, 3 and 10.

    Args:
        optimizer: see :class:`GroupSchedule`.
        num_training_steps: all steps of the run.
        epochs: number of epochs that all steps stand for.
        warmup_epochs: epochs of rising rate; the last of them has the full one.
        hold_epochs: further epochs with the full rate.
        scale: how far below the full rate the warm-up begins.

    Raises:
        ElpError: naming the key that is wrong.
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
        raise ElpError(
            f"scheduler: warmup_epochs and hold_epochs make {start}, which must be less than epochs ({epochs})"
        )

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
        optimizer: see :class:`GroupSchedule`; with ``groups`` one of ELPAdam, ELPAdamW, ELPOptim.
        num_training_steps: all steps of the run.
        multipliers: one number per epoch; its length is the number of epochs that all steps stand for.
        groups: other lists of that length for some groups of the optimizer.

    Raises:
        ElpError: naming the key that is wrong.
    """
    lists = {"multipliers": multipliers, **{f"groups.{name}": values for name, values in _groups(groups).items()}}
    for key, values in lists.items():
        if not isinstance(values, list | tuple) or not values:
            raise ElpError(f"scheduler.{key} is {shown(values)}; it must be a list of numbers, one per epoch")
        for value in values:
            number(value, key=f"scheduler.{key}", least=0)
        if len(values) != len(multipliers):
            raise ElpError(f"scheduler.{key} has {len(values)} epochs, but scheduler.multipliers {len(multipliers)}")
    if groups and any("name" not in group for group in optimizer.param_groups):
        raise ElpError("scheduler.groups needs an optimizer with named groups; choose ELPAdam, ELPAdamW or ELPOptim")

    def multiplier(group: str | None, step: int) -> float:
        epoch = epoch_of(step, epochs=len(multipliers), total_steps=int(num_training_steps))
        return lists.get(f"groups.{group}", multipliers)[epoch]

    return GroupSchedule(optimizer, multiplier)


def get_ELPStepDecay(  # S3PRL looks for get_NAME
    optimizer: Optimizer, num_training_steps: int, epochs: int, every: int, factor: float
) -> GroupSchedule:
    """Multiply by ``factor`` after each ``every`` epochs, as torch's StepLR called once per epoch.

    Args:
        optimizer: see :class:`GroupSchedule`.
        num_training_steps: all steps of the run.
        epochs: number of epochs that all steps stand for.
        every: epochs between two decays.
        factor: from 0 to 1.

    Raises:
        ElpError: naming the key that is wrong.
    """
    positive_int(epochs, key="scheduler.epochs", least=1)
    positive_int(every, key="scheduler.every", least=1)
    number(factor, key="scheduler.factor", least=0, most=1)

    def multiplier(_: str | None, step: int) -> float:
        return float(factor) ** (epoch_of(step, epochs=epochs, total_steps=int(num_training_steps)) // every)

    return GroupSchedule(optimizer, multiplier)


def _groups(groups: Mapping[str, Any] | None) -> dict[str, Any]:
    if groups is not None and not isinstance(groups, Mapping):
        raise ElpError(f"scheduler.groups is {shown(groups)}; it must be a block of lists, one per group")
    for name in groups or {}:
        if name not in group_names():
            raise ElpError(f"scheduler.groups: unknown group {shown(name)}; the groups are: {', '.join(group_names())}")
    return dict(groups or {})
