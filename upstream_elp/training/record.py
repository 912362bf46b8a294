"""What the training loop writes down: log lines and the content of checkpoints."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from upstream_elp.adapters.config import preset_names
from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import files
from upstream_elp.experiment import logs, saving
from upstream_elp.experiment.moved import ADAPTED, REMEMBERED
from upstream_elp.experiment.origin import ENTRY as ORIGIN
from upstream_elp.training.optimization import state_of
from upstream_elp.upstream.adapter_folder import is_adapter_folder

if TYPE_CHECKING:
    from upstream_elp.training.loop import Training


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rate by parameter group; S3PRL's optimizers do not name theirs."""
    groups = enumerate(optimizer.param_groups)
    return {str(group.get("name", f"group{index}")): float(group["lr"]) for index, group in groups}


def append_line(training: Training, *, loss: float, norm: float, utterances: int, seconds: float) -> None:
    """Append one line to ``train.jsonl``.

    Args:
        training: the run.
        loss: of the last step, the mean over ranks.
        norm: of its gradient, before clipping.
        utterances: since the last line.
        seconds: since the last line.
    """
    line = {
        "step": training.position.step,
        "epoch": training.position.epoch,
        "loss": logs.finite(loss),
        "grad_norm": logs.finite(norm),
        "lr": training.rates,
        "skipped": training.position.skipped,
        "overflows": training.position.overflows,
        "utterances": utterances,
        "seconds": round(seconds, 3),
    }
    files.append_line(training.folder / logs.TRAIN_LOG, json.dumps(line))


def states(training: Training, random: list[dict[str, Any]]) -> dict[str, Any]:
    """S3PRL's entries of a checkpoint, and what an exact continuation needs.

    Args:
        training: the run, between two steps.
        random: each rank's random states.
    """
    position = training.position
    content: dict[str, Any] = {
        "Optimizer": state_of(training.optimizer),
        "Step": position.step,
        "Epoch": position.epoch,
        "Args": _found_from_anywhere(training.args),
        "Config": training.config,
        "Position": position.entry(),
        "Random": random,
        "Records": saving.plain_records(position.records),
        ORIGIN: training.origin,
    }
    for entry in training.runner.all_entries:
        if entry.trainable:
            content[entry.name] = unwrapped(entry.model).state_dict()
    if training.scheduler is not None:
        content["Scheduler"] = training.scheduler.state_dict()
    if training.precision.scaler.is_enabled():
        content["Scaler"] = training.precision.scaler.state_dict()
    if torch.distributed.is_initialized():
        content["WorldSize"] = torch.distributed.get_world_size()
    return content


def _found_from_anywhere(args: Namespace) -> Namespace:
    """With whole paths, which are otherwise relative to the folder that the run was started in, and our own flags'."""
    own = {key: _whole(os.environ.get(variable)) for key, variable in REMEMBERED.items()}
    place, config = args.upstream_ckpt, args.upstream_model_config
    own[ADAPTED] = bool(place) and is_adapter_folder(place)
    config = config if config in preset_names() else _whole(config)
    return Namespace(**{**vars(args), **own, "upstream_ckpt": _whole(place), "upstream_model_config": config})


def _whole(place: str | None) -> str | None:
    return str(Path(place).absolute()) if place and Path(place).exists() else place


def ranks() -> int:
    """Number of processes that train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def sum_over_ranks(value: float, device: torch.device) -> float:
    """A number that all ranks then agree on; not finite if one of theirs is not."""
    if not torch.distributed.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return float(total)


def gathered(value: Any) -> list[Any]:
    """One value per rank."""
    if not torch.distributed.is_initialized():
        return [value]
    values = [None] * ranks()
    torch.distributed.all_gather_object(values, value)
    return values
