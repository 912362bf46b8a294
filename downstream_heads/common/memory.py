"""What a task's weights mean beyond their numbers, kept in its checkpoints: the names of its classes, its threshold.

It travels as torch's "extra state", one more entry of the task's state dict, written as a tensor of bytes so that
whatever handles checkpoints meets tensors alone.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upstream_elp.base.errors import ElpError

KEY = "_extra_state"
"""The entry's name, which torch gives."""


def encode(memory: Mapping[str, Any]) -> Tensor:
    """Plain values -> uint8 tensor of their JSON."""
    return torch.tensor(list(json.dumps(memory).encode()), dtype=torch.uint8)


def decode(state: Any) -> dict[str, Any]:
    """The plain values that :func:`encode` was given.

    Raises:
        ElpError: it is no such tensor.
    """
    try:
        memory = json.loads(bytes(state.tolist()))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ElpError(f"the checkpoint's entry {KEY} is not what a task of ours writes; give another one") from error
    if not isinstance(memory, dict):
        raise ElpError(f"the checkpoint's entry {KEY} is not what a task of ours writes; give another one")
    return memory
