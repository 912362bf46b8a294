"""Read S3PRL's training checkpoints (``states-N.ckpt``, ``*-best.ckpt``) without running code from them."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import torch

from upstream_elp.base.errors import ElpError
from upstream_elp.base.safe_load import load_safely
from upstream_elp.experiment.existing import states as states_by_step


def find_states(place: str | Path) -> Path:
    """Find the checkpoint that a user means.

    Args:
        place: a checkpoint file, or an experiment directory: then its one ``*-best.ckpt``, else its latest
            ``states-N.ckpt``.

    Raises:
        ElpError: no checkpoint there, or several best ones.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise ElpError(f"there is no experiment directory or checkpoint at {place}")
    best = sorted(place.glob("*-best.ckpt"))
    if len(best) > 1:
        raise ElpError(f"{place} holds several best checkpoints ({', '.join(p.name for p in best)}); name one of them")
    states = states_by_step(place)
    if not best and not states:
        raise ElpError(f"{place} holds no checkpoint (*-best.ckpt or states-N.ckpt); train first")
    return best[0] if best else states[-1]


def _namespace_admitted() -> contextlib.AbstractContextManager:
    """Admit ``argparse.Namespace`` for one load; torch's own context would also revoke what was admitted before it."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return contextlib.nullcontext()
    return torch.serialization.safe_globals([argparse.Namespace])


def load_states(path: str | Path) -> dict[str, Any]:
    """Load a training checkpoint; of classes, only the ``argparse.Namespace`` of its arguments is admitted.

    Raises:
        ElpError: unreadable file, or not a training checkpoint of S3PRL.
    """
    with _namespace_admitted():
        states = load_safely(path, hint="give a training checkpoint (states-N.ckpt or *-best.ckpt)")
    known = isinstance(states, dict) and {"Args", "Config", "Step"} <= set(states)
    needed = ("upstream", "upstream_ckpt", "upstream_model_config")
    if not known or not all(hasattr(states["Args"], name) for name in needed):
        raise ElpError(f"{path} is no training checkpoint: the keys Args, Config and Step are expected")
    return states
