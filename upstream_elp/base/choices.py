"""Choices in configurations that several rooms know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
PRECISIONS = tuple(_TYPES)
"""Values of ``runner.precision`` and ``runner.cache_dtype``."""
BATCH, UTTERANCE = FEATURES_OF = ("batch", "utterance")
"""Values of ``runner.features_of``."""


def torch_type(name: str) -> torch.dtype:
    """Return torch's type for one of :data:`PRECISIONS`."""
    import torch

    return getattr(torch, _TYPES[name])
