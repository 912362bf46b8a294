"""Data loaders that follow S3PRL's contract, and the audio reader of all tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import get_rank, get_world_size, is_available, is_initialized
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from downstream_heads.common.batching import Limits, eval_batches, train_batches
from upstream_elp.audio.reading import MIN_SAMPLES, load_audio
from upstream_elp.audio.scaling import standardized
from upstream_elp.audio.skips import Dropping, DroppingLoader, Present, Replacing, SplitSkips


class AudioReader:
    """Reads the files of a task, all by the same rules.

    Args:
        resample: convert other sample rates to 16 kHz; otherwise they are an error.
        channels: what to do with several channels: ``error``, ``mean`` or ``first``.
        pre_load: keep decoded files in memory. Each process has its own copies, so use it only without worker
            processes, and for corpora that fit.
        min_samples: shortest accepted utterance, in samples.
        normalize: scale every wave to mean 0 and variance 1.
    """

    def __init__(
        self,
        *,
        resample: bool = False,
        channels: str = "error",
        pre_load: bool = False,
        min_samples: int = MIN_SAMPLES,
        normalize: bool = False,
    ) -> None:
        self.resample = resample
        self.channels = channels
        self.min_samples = min_samples
        self.normalize = normalize
        self.kept: dict[str, Tensor] | None = {} if pre_load else None

    def __call__(self, path: Path | str) -> Tensor:
        """Read one file as float32 at 16 kHz. Shape: ``(samples,)``."""
        if self.kept is None:
            return self._read(path)
        key = str(path)
        if key not in self.kept:
            self.kept[key] = self._read(path)
        return self.kept[key]

    def _read(self, path: Path | str) -> Tensor:
        options = {"resample": self.resample, "channels": self.channels, "min_samples": self.min_samples}
        wav = load_audio(Path(path), **options)
        return standardized(wav) if self.normalize else wav

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["kept"] = None if self.kept is None else {}  # a spawned worker fills its own
        return state


def transpose(samples: Sequence[tuple]) -> tuple[list, ...]:
    """Collate items ``(wav, label, …)`` into lists ``(wavs, labels, …)``; S3PRL's runner splits off the first."""
    return tuple(list(column) for column in zip(*samples, strict=True))


def process() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    return (get_rank(), get_world_size()) if is_available() and is_initialized() else (0, 1)


def train_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    num_workers: int,
    collate_fn: Callable[[list], Any] = transpose,
    epoch: int = 0,
    seed: int = 0,
    skip: SplitSkips | None = None,
    limits: Limits | None = None,
) -> DataLoader:
    """Make a loader shuffled by ``seed`` and ``epoch``; several ranks share the same order of a single process.

    With ``skip``, an unusable item is replaced by the next usable one. With ``limits``, batches contain utterances of
    similar length, and ``batch_size`` is not used; the data set then needs a method ``lengths()``.
    """
    options = {
        "num_workers": num_workers,
        "collate_fn": collate_fn,
        "generator": torch.Generator().manual_seed(seed + epoch),  # as DistributedSampler seeds its own
    }
    items = dataset if skip is None else Replacing(dataset, skip)
    rank, ranks = process()
    if limits is not None:
        batches = train_batches(dataset.lengths(), limits, seed=seed, epoch=epoch, ranks=ranks)
        return DataLoader(items, batch_sampler=batches[rank::ranks], **options)
    sampler = None
    if is_available() and is_initialized():
        sampler = DistributedSampler(items, seed=seed)
        sampler.set_epoch(epoch)
    return DataLoader(items, batch_size=batch_size, shuffle=sampler is None, sampler=sampler, **options)


def eval_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    num_workers: int,
    collate_fn: Callable[[list], Any] = transpose,
    skip: SplitSkips | None = None,
    limits: Limits | None = None,
) -> DataLoader:
    """Make a loader in the data set's order; S3PRL evaluates in one process, even in distributed training.

    It has its own generator, so that worker seeds are not drawn from the global random state. With ``skip``, unusable
    items are skipped. With ``limits``, utterances are sorted by length, and ``batch_size`` is not used.
    """
    options = {"num_workers": num_workers, "generator": torch.Generator().manual_seed(0)}
    if limits is None:
        options |= {"batch_size": batch_size, "shuffle": False}
    else:
        options["batch_sampler"] = eval_batches(dataset.lengths(), limits)
    if skip is None:
        return DataLoader(dataset, collate_fn=collate_fn, **options)
    return DroppingLoader(Dropping(dataset, skip), collate_fn=Present(collate_fn), skip=skip, **options)
