"""The random states of a process: kept, restored, and seeded for a while without a trace."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def capture(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Python's, numpy's and torch's random states, as tensors and plain values that load under ``weights_only``.

    Args:
        device: if it is a CUDA device, its generator's state is kept as well.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.device(device).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(states: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Put back what :func:`capture` kept."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = states["numpy"]
    np.random.set_state((kind, numbers.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


@contextlib.contextmanager
def preserved(device: torch.device | str = "cpu") -> Iterator[None]:
    """Leave the random states as they were, whatever the block draws or seeds."""
    states = capture(device)
    try:
        yield
    finally:
        restore(states, device)


def seed_host(*parts: Any) -> None:
    """Seed python, numpy and torch's CPU generator from the values, the same on every machine and in every process."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    number = int.from_bytes(digest[:8], "little") >> 1
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
