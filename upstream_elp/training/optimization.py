"""Optimizer and schedule of a run, with settings from the config and progress from the checkpoint.

torch keeps both in one state, so a checkpoint would bring its own learning rates and changes with ``-o`` would have no
effect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from upstream_elp.experiment.checkpoint import OPTIMIZER, SCHEDULER
from upstream_elp.training.optimizers import Trainable
from upstream_elp.training.schedulers import GroupSchedule

logger = logging.getLogger(__name__)
_CLASS = ("name", "torch_optim_name")
"""Keys that choose the optimizer's class; another class cannot use its state."""


def build_optimizer(runner: Any, models: Sequence[Trainable], *, total: int) -> Optimizer:
    """The config's optimizer with the state of the checkpoint, if there is one.

    Args:
        runner: S3PRL's runner.
        models: the trained models.
        total: number of steps of the training.
    """
    from s3prl.optimizers import get_optimizer

    block, had = runner.config["optimizer"], (runner.checkpoint.config or {}).get("optimizer")
    optimizer = get_optimizer(models, total, block)
    if isinstance(had, Mapping) and any(had.get(key) != block.get(key) for key in _CLASS):
        logger.warning("the checkpoint has another optimizer (%s); the optimizer starts afresh", had.get("name"))
        return optimizer
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    runner._load_weight(optimizer, OPTIMIZER)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.pop("initial_lr", None)  # of the checkpoint's schedule
        group.update(own)
    place_step_counts(optimizer)
    return optimizer


def place_step_counts(optimizer: Optimizer) -> None:
    """Move the counts of steps to where the optimizer's kernels expect them, as the checkpoint's may have been others.

    A fused kernel reads them on the device of the parameters, the others on the CPU.
    """
    for group in optimizer.param_groups:
        on_device = group.get("fused") or group.get("capturable")
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].to(parameter.device if on_device else "cpu")


def build_schedule(runner: Any, optimizer: Optimizer, *, total: int) -> LRScheduler | None:
    """The config's schedule at the checkpoint's step, with that step's learning rates in the optimizer.

    Args:
        runner: S3PRL's runner.
        optimizer: see :func:`build_optimizer`.
        total: number of steps of the training.
    """
    from s3prl.schedulers import get_scheduler

    block, checkpoint = runner.config.get("scheduler"), runner.checkpoint
    if not block:
        return None
    schedule = get_scheduler(optimizer, total, block)
    had = (checkpoint.config or {}).get("scheduler") or {}
    if checkpoint.scheduler is not None and had.get("name") == block.get("name"):
        runner._load_weight(schedule, SCHEDULER)
    else:  # none before, another one, or a best checkpoint, which has none: as if it had run from the start
        schedule.last_epoch = checkpoint.step or 0
        schedule._step_count = schedule.last_epoch + 1
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, _rates(schedule), strict=True):
        group["lr"] = rate
    return schedule


def state_of(optimizer: Optimizer) -> dict[str, Any]:
    """The state without settings that are objects, as in S3PRL's ``*_with_schedule``, which would not load."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [_plain(group) for group in state["param_groups"]]}


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (bool, int, float, str, list, tuple, type(None))
    return {key: value for key, value in group.items() if isinstance(value, kinds)}


def _rates(schedule: LRScheduler) -> list[float]:
    """The rates of the current step; those in a checkpoint may belong to another number of steps."""
    if isinstance(schedule, LambdaLR):
        factors = [multiplier(schedule.last_epoch) for multiplier in schedule.lr_lambdas]
        return [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    return schedule.get_lr() if isinstance(schedule, GroupSchedule) else schedule.get_last_lr()
