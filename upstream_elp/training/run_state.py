"""The state of a training as data: what it consists of, and how far it has come.

The loop and the optimizer steps change it. Reports, progress, log lines, checkpoints and rescue read it.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import randomness
from upstream_elp.base.energy import Meter
from upstream_elp.training.position import Position
from upstream_elp.training.precision import Precision
from upstream_elp.training.writer import Writer


class Entry(Protocol):
    """One of the three models of S3PRL's runner."""

    name: str
    model: nn.Module
    trainable: bool


@dataclass(frozen=True)
class Mark:
    """A point between two steps to which a training can return, as parameters and optimizer have not changed since."""

    position: dict[str, Any]
    random: dict[str, Any]


@dataclass
class RunState:
    """One training in one process.

    Args:
        args: S3PRL's flags.
        config: the task's configuration.
        entries: upstream, featurizer and downstream, in this order.
        precision: the precision of upstream and featurizer.
        device: where the models are.
        leads: whether this process evaluates, saves and prints.
        origin: what the trained tensors belong to, as checkpoints keep it.
        split: the split to train on.
        trained: the models that are trained, wrapped where several processes train.
        parameters: their trainable tensors.
        optimizer: their optimizer.
        scheduler: the schedule of its learning rates, if there is one.
        block: the configuration's runner block, with the length of the training in steps.
        began_at: when the training began, by the monotonic clock.
    """

    args: Namespace
    config: dict[str, Any]
    entries: Sequence[Entry]
    precision: Precision
    device: torch.device
    leads: bool
    origin: dict[str, Any]
    split: str
    trained: list[nn.Module]
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    scheduler: LRScheduler | None
    block: dict[str, Any]
    began_at: float

    position: Position = field(default_factory=Position)
    random: list[dict[str, Any]] | None = None
    """Each rank's random states, read from a checkpoint and not yet restored."""
    loss: float = 0.0
    """The loss of the current step, the mean over its batches."""
    norm: float = math.nan
    """The norm of its gradient, before clipping."""
    rates: dict[str, float] = field(default_factory=dict)
    """Learning rate of each parameter group in the last step."""
    mark: Mark | None = None
    """The point to return to if something ends the training now; None while a step changes the parameters."""
    in_step: bool = False
    began: int = 0
    """The step at which this process started."""
    saved: int | None = None
    """The step of the last checkpoint for resuming that this process has written."""
    logged_at: float | None = None
    """When this process wrote its last log line."""
    meter: Meter = field(default_factory=Meter)
    """The energy since the last log line; only in the process that leads."""
    logger: Writer | None = None
    """TensorBoard's writer; only in the process that leads."""
    bar: tqdm = field(default_factory=lambda: tqdm(disable=True))

    @property
    def folder(self) -> Path:
        """The experiment directory."""
        return Path(self.args.expdir)

    @property
    def total(self) -> int:
        """Number of steps of the whole training."""
        return int(self.block["total_steps"])

    @property
    def upstream(self) -> nn.Module:
        """The upstream, without what wraps it for several processes."""
        return unwrapped(self.entries[0].model)

    @property
    def head(self) -> nn.Module:
        """The task's expert, without what wraps it for several processes."""
        return unwrapped(self.entries[2].model)

    @property
    def unlogged_seconds(self) -> float:
        """Seconds since the last line of the log, or since the start."""
        return time.monotonic() - (self.began_at if self.logged_at is None else self.logged_at)

    def set_mark(self) -> None:
        """Make this the point to return to."""
        self.mark = Mark(self.position.mark(), randomness.capture(self.device))
