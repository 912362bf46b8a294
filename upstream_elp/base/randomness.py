"""The random states of a process: captured, restored, and seeded temporarily."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def capture(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the random states of Python, numpy and torch as values that load under ``weights_only``.

    Args:
        device: if it is a CUDA device, the state of its generator is included.
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
    """Restore the states that :func:`capture` returned."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = states["numpy"]
    np.random.set_state((kind, numbers.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if "cuda" in states and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


@contextlib.contextmanager
def preserved(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore the random states after the block, whatever it draws or seeds."""
    states = capture(device)
    try:
        yield
    finally:
        restore(states, device)


def seed_host(*parts: Any) -> None:
    """Seed Python, numpy and torch's CPU generator from the values, equally on every machine and in every process."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    number = int.from_bytes(digest[:8], "little") >> 1
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)
