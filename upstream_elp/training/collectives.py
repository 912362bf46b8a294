"""Communication between the processes that train together; a single process communicates with nobody."""

from __future__ import annotations

from typing import Any

import torch


def rank() -> int:
    """This process's number; 0 evaluates, saves and prints."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def ranks() -> int:
    """Number of processes that train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def sum_over_ranks(value: float, device: torch.device) -> float:
    """The sum over all ranks; not finite if any rank's value is not."""
    if not torch.distributed.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return float(total)


def wait_for_all(device: torch.device) -> None:
    """Return when all ranks are here, so that none ends while another still exchanges tensors with it."""
    if torch.distributed.is_initialized():
        nccl = torch.distributed.get_backend() == "nccl"
        torch.distributed.barrier(device_ids=[device.index or 0] if nccl else None)


def gathered(value: Any) -> list[Any]:
    """One value per rank."""
    if not torch.distributed.is_initialized():
        return [value]
    values = [None] * ranks()
    torch.distributed.all_gather_object(values, value)
    return values
