"""Collect the facts of a run at its end, for its report."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upstream_elp.audio import skips
from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import energy, installed, memory
from upstream_elp.experiment import asked
from upstream_elp.experiment.checkpoint import DOWNSTREAM, UPSTREAM
from upstream_elp.experiment.logs import TRAIN_LOG
from upstream_elp.training.run_state import Entry, RunState

VARIABLES = ("WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Environment variables that affect results, in addition to our own, which all begin with ``ELP_``."""


def environment() -> dict[str, str]:
    """The environment variables that affect results, and the folder that relative paths start from."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("ELP_") or name in VARIABLES}
    return {**found, "PWD": str(Path.cwd())}


def parameters(entries: Sequence[Entry]) -> dict[str, int]:
    """Trained parameters per component (head, featurizer, each method), and the frozen ones of the upstream."""
    counts: dict[str, int] = {}
    for entry in entries:
        model = unwrapped(entry.model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if entry.trainable else 0
        if entry.name == UPSTREAM:
            counts["frozen"] = sum(p.numel() for p in model.parameters()) - trained
            counts |= _upstream(model, trained)
        else:
            counts["head" if entry.name == DOWNSTREAM else "featurizer"] = trained
    return counts


def _upstream(model: nn.Module, trained: int) -> dict[str, int]:
    if not trained:
        return {}
    injection = getattr(model, "injection", None)
    return dict(injection.counts(model)) if injection is not None else {"encoder": trained}


def _peak_memory(device: torch.device) -> int:
    """Peak memory in bytes, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory.peak_memory()


def device_name(device: torch.device) -> str:
    """The device's common name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def report(state: RunState) -> str:
    """Write the report of a finished run into its folder, and return it as a short table."""
    from upstream_elp.experiment.report import write_report
    from upstream_elp.training.datafiles import task_fingerprint

    head, upstream = state.head, state.upstream
    if hasattr(head, "dataset"):
        head.dataset(state.split)  # already built, unless no step was left
    adapted = hasattr(upstream, "injection")
    logged = _logged(state.folder / TRAIN_LOG)
    facts = {
        "command": asked.command(),
        "environment": environment(),
        "versions": {name: found for name, found in installed.versions().items() if found},
        "config": state.config,
        "args": vars(state.args),
        "adapter": upstream.config.to_dict() if adapted else None,
        "backbone": {"name": upstream.name, "sha256": upstream.fingerprint.sha256} if adapted else None,
        "seed": state.args.seed,
        "parameters": parameters(state.entries),
        "seconds": sum(line["seconds"] for line in logged) + state.unlogged_seconds,
        "energy_joules": energy.total([*(line.get("joules") for line in logged), state.meter.joules()]),
        "peak_memory_bytes": _peak_memory(state.device),
        "device": device_name(state.device),
        "data": task_fingerprint(head),
        "skipped_steps": state.position.skipped,
        "fp16_overflows": state.position.overflows,
        "skipped_files": len(skips.read_skips(state.folder / skips.FILE)),
    }
    return write_report(state.folder, facts)


def report_again(state: RunState) -> str:
    """The table of a run that finished earlier; its report is written now if a kill prevented it then."""
    from upstream_elp.experiment.facts import RESULTS
    from upstream_elp.experiment.report import rewrite, table

    return table(rewrite(state.folder)) if (state.folder / RESULTS).is_file() else report(state)


def _logged(log: Path) -> list[dict[str, Any]]:
    """The lines of the log, of all processes that this run has had; what a kill cut off is lost."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
