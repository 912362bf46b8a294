"""Check a repository in the hidden set's layout: ``python -m upstream_elp.submission.hub_check`` in its folder."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAMPLES = (32000, 28800, 59200)
"""Lengths of the test waves: 2, 1.8 and 3.7 seconds."""
MOST_FRAMES = 5
"""By how many frames the length may differ from the waves' length over the rate."""


def check(folder: Path) -> dict[str, Any]:
    """Load ``expert.py`` and check what it returns for a batch.

    Returns:
        For every key of the result ``states``, ``dim``, and ``change``: the largest change of the second, shorter
        wave's states from a batch to the wave by itself, relative to their standard deviation.

    Raises:
        ValueError: features have wrong shapes or lengths.
    """
    spec = importlib.util.spec_from_file_location("expert", folder / "expert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.UpstreamExpert(ckpt=str(folder / "model.pt"), upstream_feature_selection="hidden_states").eval()
    draw = torch.Generator().manual_seed(0)
    wavs = [torch.randn(samples, generator=draw) for samples in SAMPLES]
    with torch.no_grad():
        batch, single = model(wavs), model(wavs[1:2])
    found = {}
    for key, states in batch.items():
        _check_shapes(key, states, model.get_downsample_rates(key))
        shown = [_change(many, one) for many, one in zip(states, single[key], strict=True)]
        found[key] = {"states": len(states), "dim": states[0].shape[-1], "change": max(shown)}
    if "hidden_states" not in found:
        raise ValueError("the result has no hidden_states")
    return found


def _check_shapes(key: str, states: list[Tensor], rate: int) -> None:
    if not isinstance(states, list) or not states:
        raise ValueError(f"{key} must be a list of states, but is {type(states).__name__}")
    if len({state.shape for state in states}) != 1 or states[0].dim() != 3 or len(states[0]) != len(SAMPLES):
        raise ValueError(f"{key} must have states of one shape (batch, frames, dim), but has {states[0].shape}")
    if abs(round(max(SAMPLES) / rate) - states[0].shape[1]) >= MOST_FRAMES:
        raise ValueError(f"{key} must have about {max(SAMPLES) / rate:.0f} frames, but has {states[0].shape[1]}")


def _change(batch: Tensor, single: Tensor) -> float:
    """Return the largest difference of one wave's frames in both, over their standard deviation."""
    frames = single.shape[1]
    return float((batch[1, :frames] - single[0]).abs().max() / single.std())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(check(Path.cwd())) + "\n")
