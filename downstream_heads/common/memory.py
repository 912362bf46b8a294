"""What a task stores in its checkpoints besides weights: the names of its classes, its threshold.

It is torch's "extra state", an additional entry of the task's state dict. It is a tensor of bytes, so that a state dict
contains only tensors.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upstream_elp.base.errors import ElpError

KEY = "_extra_state"
"""Name of the entry, set by torch."""


def encode(memory: Mapping[str, Any]) -> Tensor:
    """Encode plain values as the uint8 tensor of their JSON."""
    return torch.tensor(list(json.dumps(memory).encode()), dtype=torch.uint8)


def decode(state: Any) -> dict[str, Any]:
    """Return the plain values that :func:`encode` encoded.

    Raises:
        ElpError: it is not such a tensor.
    """
    try:
        memory = json.loads(bytes(state.tolist()))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ElpError(
            f"the checkpoint's entry {KEY} was not written by one of these tasks; use another checkpoint"
        ) from error
    if not isinstance(memory, dict):
        raise ElpError(f"the checkpoint's entry {KEY} was not written by one of these tasks; use another checkpoint")
    return memory
