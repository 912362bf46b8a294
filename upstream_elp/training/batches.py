"""The batches of an epoch, from any batch on, in an order that depends only on seed and epoch.

S3PRL's loaders draw the order, crops and other augmentation from the process's global random state, so a run cannot
resume in the middle of an epoch. Here the order is drawn at the start of the epoch from (seed, epoch), and the items of
each batch from (seed, epoch, batch), whichever process reads them.
"""

from __future__ import annotations

import inspect
import multiprocessing.util
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from upstream_elp.base import randomness
from upstream_elp.base.errors import ElpError
from upstream_elp.training.stop import SIGNALS, held
from upstream_elp.training.waves import pin_for


class SeededItems(Dataset):
    """A data set that draws the items of each batch from a random state that belongs to the batch.

    Args:
        dataset: the task's data set.
        seed: the seed of the run and the epoch.
    """

    def __init__(self, dataset: Dataset, seed: tuple[Any, ...]) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        randomness.seed_host(*self.seed, index)
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        """Fetch a whole batch; the loader's collate function then continues with the same random state."""
        randomness.seed_host(*self.seed, *indices)
        many = getattr(self.dataset, "__getitems__", None)
        return many(indices) if many else [self.dataset[index] for index in indices]


def _leave_an_orphan(parent: int) -> None:
    """End a worker whose main process was killed, as multiprocessing would wait forever for its batches to be read.

    The pipe is full, since our batches are arrays and not handles to shared memory, and the workers keep its other end
    open.
    """
    if os.getppid() != parent:
        os._exit(1)


class Undisturbed:
    """Start-up function of a worker process, which ignores the signals that the main process handles.

    Forked workers start with these signals blocked; spawned ones start to ignore them here. A worker ends together with
    its main process, however that ends.

    Args:
        then: the loader's own start-up function.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # before the queue's finalizer (exitpriority -5), which waits
        multiprocessing.util.Finalize(None, _leave_an_orphan, args=(os.getppid(),), exitpriority=0)
        if self.then is not None:
            self.then(worker)


class Epoch:
    """One epoch of a split.

    Args:
        expert: S3PRL's downstream expert.
        split: the split, such as ``train``.
        epoch: the epoch's number, from 0.
        seed: the run's seed.
        start: number of batches to skip, as an earlier run has used them.
        device: where the waves go; for a GPU, they are pinned.
    """

    def __init__(
        self, expert: Any, split: str, *, epoch: int, seed: int, start: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.start = start
        with randomness.preserved():
            loader = pin_for(epoch_loader(expert, split, epoch=epoch, seed=seed), device)
            self.total = len(loader) if not isinstance(loader.dataset, IterableDataset) else None
            # created here, because this draws the workers' seed
            with held():
                self._iterator = iter(_continued(loader, (seed, epoch), start))

    def __iter__(self) -> Iterator[Any]:
        """The remaining batches; reading them does not change the process's random states."""
        while True:
            with randomness.preserved():
                try:
                    batch = next(self._iterator)
                except StopIteration:
                    return
            yield batch


def check_split(head: Any, split: str) -> None:
    """Refuse a split that one of S3PRL's tasks does not have; our tasks and some others check this themselves.

    Raises:
        ElpError: listing the valid splits.
    """
    names = [found.group(1) for name in dir(type(head)) if (found := re.fullmatch("get_(.+)_dataloader", name))]
    if names and split not in names:
        raise ElpError(f"the task has no split {split!r}; it has: {', '.join(sorted(names))}")


def epoch_loader(expert: Any, split: str, *, epoch: int, seed: int) -> DataLoader:
    """The expert's loader of an epoch; this seeds the process's random states.

    It gets the epoch as an argument or through its distributed sampler (S3PRL's runner.py).
    """
    randomness.seed_host(seed, epoch, "order")
    if "epoch" in inspect.signature(expert.get_dataloader).parameters:
        return expert.get_dataloader(split, epoch=epoch)
    loader = expert.get_dataloader(split)
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        loader.sampler.set_epoch(epoch)
    return loader


def _continued(loader: DataLoader, seed: tuple[Any, ...], start: int) -> Any:
    if isinstance(loader.dataset, IterableDataset):  # it has no known order
        return islice(loader, start, None)
    options = {
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": Undisturbed(loader.worker_init_fn),
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
    }
    items = SeededItems(loader.dataset, seed)
    if loader.batch_sampler is None:  # the data set makes the batches itself
        return DataLoader(items, batch_size=None, sampler=list(loader.sampler)[start:], **options)
    return DataLoader(items, batch_sampler=list(loader.batch_sampler)[start:], **options)
