"""Recognise a backbone by its tensors: two files with the same tensors have the same fingerprint."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

SKETCHED = 16
HALF_PRECISION = 2e-3
"""Relative difference of norms that rounding to 16 bits can cause; bfloat16 keeps 8 bits of a value's mantissa."""


@dataclass(frozen=True)
class Fingerprint:
    """sha256 over names, types, shapes and bytes of all tensors, and the norms of some of them."""

    sha256: str
    sketch: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping for files."""
        return {**asdict(self), "sketch": list(self.sketch)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Fingerprint:
        """Inverse of :meth:`to_dict`."""
        return cls(sha256=str(raw["sha256"]), sketch=tuple(float(value) for value in raw["sketch"]))

    def resembles(self, other: Fingerprint) -> bool:
        """Whether the norms agree to half precision: the same weights, rounded or converted."""
        return len(self.sketch) == len(other.sketch) and all(
            math.isclose(a, b, rel_tol=HALF_PRECISION, abs_tol=1e-6)
            for a, b in zip(self.sketch, other.sketch, strict=True)
        )


def fingerprint(module: nn.Module) -> Fingerprint:
    """Compute the fingerprint of a module that nothing has been injected into."""
    state = sorted(module.state_dict().items())
    digest = hashlib.sha256()
    for name, tensor in state:
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    floating = [tensor for _, tensor in state if tensor.is_floating_point()]
    step = max(1, len(floating) // SKETCHED)
    sketch = tuple(round(tensor.double().norm().item(), 6) for tensor in floating[::step][:SKETCHED])
    return Fingerprint(digest.hexdigest(), sketch)
