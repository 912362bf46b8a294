"""Write the log lines and checkpoints of a training."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from upstream_elp.adapters.config import preset_names
from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import files, randomness, settings
from upstream_elp.experiment import logs, saving
from upstream_elp.experiment.checkpoint import DOWNSTREAM, FEATURIZER, UPSTREAM, Checkpoint, Remembered
from upstream_elp.training.collectives import gathered
from upstream_elp.training.optimization import state_of
from upstream_elp.training.run_state import RunState
from upstream_elp.upstream.adapter_folder import is_adapter_folder


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rate by parameter group; S3PRL's optimizers do not name theirs."""
    groups = enumerate(optimizer.param_groups)
    return {str(group.get("name", f"group{index}")): float(group["lr"]) for index, group in groups}


def append_line(state: RunState, *, utterances: int) -> None:
    """Append one line to ``train.jsonl``.

    Args:
        state: the training after a step.
        utterances: utterances of all ranks since the last line.
    """
    line = {
        "step": state.position.step,
        "epoch": state.position.epoch,
        "loss": logs.finite(state.loss),
        "grad_norm": logs.finite(state.norm),
        "lr": state.rates,
        "skipped": state.position.skipped,
        "overflows": state.position.overflows,
        "utterances": utterances,
        "seconds": round(state.unlogged_seconds, 3),
    }
    if joules := state.meter.take():
        line["joules"] = {kind: round(value, 3) for kind, value in joules.items()}
    files.append_line(state.folder / logs.TRAIN_LOG, json.dumps(line))


def save(state: RunState, names: list[str], *, random: list[dict[str, Any]] | None = None) -> None:
    """Write the checkpoints; every rank must call this, since the random states of all ranks are saved.

    Args:
        state: the training between two steps.
        names: the names of the files.
        random: each rank's random states; the current ones if None.
    """
    if random is None:
        random = gathered(randomness.capture(state.device))
    if not state.leads or not names:
        return
    written = saving.write(checkpoint_of(state, random), state.folder, names, max_keep=int(state.block["max_keep"]))
    state.saved = state.position.step if any(name.startswith("states-") for name in names) else state.saved
    state.bar.write(f"elp: saved {', '.join(path.name for path in written)} in {state.folder}", file=sys.stderr)


def checkpoint_of(state: RunState, random: list[dict[str, Any]]) -> Checkpoint:
    """The checkpoint of a training: S3PRL's entries, and what an exact resume needs.

    Args:
        state: the training between two steps.
        random: each rank's random states.
    """
    position, scaler = state.position, state.precision.scaler
    trained = {entry.name: unwrapped(entry.model).state_dict() for entry in state.entries if entry.trainable}
    return Checkpoint(
        optimizer=state_of(state.optimizer),
        step=position.step,
        epoch=position.epoch,
        args=_found_from_anywhere(state.args),
        config=state.config,
        position=position.entry(),
        random=random,
        records=saving.plain_records(position.records),
        origin=state.origin,
        upstream=trained.get(UPSTREAM),
        featurizer=trained.get(FEATURIZER),
        head=trained.get(DOWNSTREAM),
        scheduler=None if state.scheduler is None else state.scheduler.state_dict(),
        scaler=scaler.state_dict() if scaler.is_enabled() else None,
        world_size=torch.distributed.get_world_size() if torch.distributed.is_initialized() else None,
    )


def _found_from_anywhere(args: Namespace) -> Namespace:
    """The flags with absolute paths, so that they work from any folder, and with our own flags."""
    place, config = args.upstream_ckpt, args.upstream_model_config
    chosen = settings.current()
    own = Remembered(
        data=_whole(chosen.data),
        backbone=_whole(chosen.backbone),
        adapter_folder=bool(place) and is_adapter_folder(place),
    )
    config = config if config in preset_names() else _whole(config)
    whole = {"upstream_ckpt": _whole(place), "upstream_model_config": config}
    return Namespace(**{**vars(own.added_to(args)), **whole})


def _whole(place: str | None) -> str | None:
    return str(Path(place).absolute()) if place and Path(place).exists() else place
