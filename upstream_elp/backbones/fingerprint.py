"""Identify a backbone by its tensors: two files with the same tensors have the same fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

SKETCHED = 16
HALF_PRECISION = 5e-3
"""Largest difference, relative to a tensor's norm, that counts as rounding to 16 bits. Rounding to bfloat16 (8 bits of
mantissa) moves a projection by about 1e-3 of the norm; two initialisations differ by about the norm."""


@dataclass(frozen=True)
class Fingerprint:
    """sha256 over names, types, shapes and bytes of all tensors, and a sketch of some of them."""

    sha256: str
    structure: str
    """sha256 over names and shapes only."""
    sketch: tuple[float, ...]
    """Norm and one projection of each sketched tensor, in turn. Norms are not enough to distinguish two
    initialisations."""

    def to_dict(self) -> dict[str, Any]:
        """Return a plain mapping for files."""
        return {**asdict(self), "sketch": list(self.sketch)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Fingerprint:
        """Build a fingerprint from the result of :meth:`to_dict`."""
        texts = {key: str(raw[key]) for key in ("sha256", "structure")}
        return cls(**texts, sketch=tuple(float(value) for value in raw["sketch"]))

    def resembles(self, other: Fingerprint) -> bool:
        """Return whether the weights are the same up to half precision: equal structures, and sketches that agree."""
        if self.structure != other.structure or len(self.sketch) != len(other.sketch):
            return False
        norms = [norm for norm in self.sketch[::2] for _ in range(2)]
        return all(
            abs(a - b) <= HALF_PRECISION * norm + 1e-6
            for a, b, norm in zip(self.sketch, other.sketch, norms, strict=True)
        )


def fingerprint(module: nn.Module) -> Fingerprint:
    """Compute the fingerprint of a module without adapters."""
    state = sorted(module.state_dict().items())
    structure = hashlib.sha256()
    for name, tensor in state:
        structure.update(f"{name}|{tuple(tensor.shape)}|".encode())
    floating = [tensor for _, tensor in state if tensor.is_floating_point()]
    largest = sorted(floating, key=Tensor.numel, reverse=True)[:SKETCHED]  # matrices: norms and biases start out equal
    directions = {size: torch.arange(size, dtype=torch.float64).cos() for size in {*map(Tensor.numel, largest)}}
    sketch = (number for tensor in largest for number in _sketch(tensor, directions[tensor.numel()]))
    return Fingerprint(digest(dict(state)), structure.hexdigest(), tuple(sketch))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _sketch(tensor: Tensor, direction: Tensor) -> tuple[float, float]:
    """Return the norm and the projection on a direction; rounding moves both by at most its share of the norm."""
    values = tensor.detach().cpu().double().flatten()
    return round(values.norm().item(), 6), round(torch.dot(values, direction).item(), 6)
