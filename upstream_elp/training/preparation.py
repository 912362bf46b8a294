"""Prepare a training from S3PRL's built models: modes, optimizer, schedule, and the checkpoint to resume from."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import energy, randomness
from upstream_elp.base.energy import Meter
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import origin, saving
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.experiment.logs import METRICS_LOG, TRAIN_LOG
from upstream_elp.training import duration, optimization, record
from upstream_elp.training.batches import check_split
from upstream_elp.training.collectives import gathered, rank, ranks
from upstream_elp.training.optimizers import Trainable
from upstream_elp.training.position import Position
from upstream_elp.training.run_state import RunState


def prepare(runner: Any) -> RunState:
    """Set modes, build optimizer and scheduler, and resume from the checkpoint if there is one.

    Args:
        runner: S3PRL's runner with its entries upstream, featurizer and downstream built.

    Raises:
        ElpError: nothing is trained, the task does not have a split, or the checkpoints cannot be written.
    """
    state = _built(runner)
    if state.leads:
        saving.clean_up(state.folder)
        saving.check_room(state.folder, sum(p.numel() for p in state.parameters))
    _take_up(state, runner.checkpoint)
    if state.leads and not state.position.step:
        saving.rehearse(record.checkpoint_of(state, [randomness.capture(state.device)]), state.folder)
    places = gathered((platform.node(), _identity(state.device)))  # of all ranks
    if state.leads and len({machine for machine, _ in places}) == 1:  # other machines' counters cannot be read
        state.meter = Meter(energy.readable([gpu for _, gpu in places if gpu])[0])
    if state.device.type == "cuda":  # so that the report's peak is only this training's
        torch.cuda.reset_peak_memory_stats(state.device)
    return state


def _identity(device: torch.device) -> str | None:
    return energy.identity(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def _built(runner: Any) -> RunState:
    began_at, device, block = time.monotonic(), torch.device(runner.args.device), runner.config["runner"]
    made_of = origin.origin(unwrapped(runner.upstream.model), trained=runner.upstream.trainable)
    trained = _in_their_modes(runner.all_entries, device)
    parameters = [p for model in trained for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ElpError(
            "nothing is trained: neither the upstream nor the head has a trainable tensor; choose another adapter "
            "with -g"
        )
    split = block.get("train_dataloader", "train")
    for name in (split, *block["eval_dataloaders"]):
        check_split(unwrapped(runner.downstream.model), name)
    block = duration.in_steps(block, unwrapped(runner.downstream.model), split, seed=runner.args.seed)
    total = block["total_steps"]
    optimizer = optimization.build_optimizer(runner, [Trainable(model) for model in trained], total=total)
    return RunState(
        args=runner.args,
        config=runner.config,
        entries=runner.all_entries,
        precision=runner.precision,
        device=device,
        leads=rank() == 0,
        origin=made_of,
        split=split,
        trained=trained,
        parameters=parameters,
        optimizer=optimizer,
        scheduler=optimization.build_schedule(runner, optimizer, total=total),
        block=block,
        began_at=began_at,
    )


def _in_their_modes(entries: list[Any], device: torch.device) -> list[nn.Module]:
    """Return the trained models; put the others into evaluation mode."""
    trained: list[nn.Module] = []
    for entry in entries:
        if entry.trainable:
            trained.append(entry.model.train().to(device))
        else:
            entry.model.eval()
    return trained


def _take_up(state: RunState, checkpoint: Checkpoint) -> None:
    """Restore a checkpoint's position and random states; S3PRL's own checkpoints contain only step and epoch."""
    state.position = position = Position.of(checkpoint)
    if not state.args.past_exp:  # with -i, another run's evaluations are not this run's
        position.pending = []
    if checkpoint.scaler:
        state.precision.scaler.load_state_dict(checkpoint.scaler)
    if state.leads:
        _forget_what_came_later(state.folder, position.step, state.head)
    random = checkpoint.random or []
    state.random = random if len(random) == ranks() else None  # -i accepts any checkpoint


def _forget_what_came_later(folder: Path, step: int, head: nn.Module) -> None:
    if hasattr(head, "forget_best") and not any(folder.glob("*-best.ckpt")):
        head.forget_best()  # the score belongs to a run in another folder
    # also at step 0: a run killed before its first checkpoint has left lines
    for name in (TRAIN_LOG, METRICS_LOG):
        saving.forget_later_lines(folder / name, step)
