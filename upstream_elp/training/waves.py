"""The waves of a batch on their way to the device: pinned in the background, and copied without waiting.

Tasks make batches of NumPy arrays, which PyTorch does not pin. So a loader for a GPU makes batches that pin their own
waves, in the loader's thread, and leave everything else as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from upstream_elp.audio.excerpt import Excerpt


class WaveBatch:
    """A batch ``(waves, *others)`` that can be pinned; it unpacks like the tuple.

    Args:
        batch: what a task's loader yields.
    """

    def __init__(self, batch: Sequence[Any]) -> None:
        self.parts = tuple(batch)

    def pin_memory(self) -> WaveBatch:
        """Return the batch with its waves as float32 tensors in pinned memory; PyTorch's loader calls this."""
        waves, *others = self.parts
        pinned = [wave if isinstance(wave, Excerpt) else _float32(wave).pin_memory() for wave in waves]
        return WaveBatch((pinned, *others))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def __getitem__(self, place: int) -> Any:
        return self.parts[place]


class Pinnable:
    """A collate function whose batches can be pinned.

    Args:
        collate: the task's collate function, whose result may be None.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Any) -> WaveBatch | None:
        batch = self.collate(items)
        return None if batch is None else WaveBatch(batch)


def pin_for(loader: Any, device: torch.device | str) -> Any:
    """Let a loader pin its waves if they go to a GPU, and return it; a loader that pins anyway stays as it is."""
    if torch.device(device).type == "cuda" and isinstance(loader, DataLoader) and not loader.pin_memory:
        loader.collate_fn = Pinnable(loader.collate_fn)
        loader.pin_memory = True
    return loader


def waves_on(waves: Sequence[Any], device: torch.device | str) -> list[Tensor]:
    """Copy waves to the device as float32 tensors; from pinned memory to a GPU, the copy does not wait.

    Args:
        waves: arrays or tensors of shape ``(samples,)``.
        device: where the models are.
    """
    without_waiting = torch.device(device).type == "cuda"
    return [_float32(wave).to(device, non_blocking=without_waiting) for wave in waves]


def _float32(wave: Any) -> Tensor:
    return torch.as_tensor(wave, dtype=torch.float32)
