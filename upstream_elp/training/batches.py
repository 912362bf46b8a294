"""An epoch's batches in an order that depends on seed and epoch alone, from any batch on.

S3PRL's loaders draw the order, crops and other augmentation from the process's global random state, so that neither can
be taken up again in the middle of an epoch. Here the order is drawn at the epoch's start from (seed, epoch), and the
items of each batch from (seed, epoch, batch), in whatever process they are read.
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

from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from upstream_elp.base import randomness
from upstream_elp.base.errors import ElpError
from upstream_elp.training.stop import SIGNALS, held


class SeededItems(Dataset):
    """A data set whose items, fetched for a batch, draw from a random state that belongs to that batch.

    Args:
        dataset: the task's.
        seed: the run's and the epoch's.
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
        """What a loader calls for a whole batch; its collate function then goes on with the same random state."""
        randomness.seed_host(*self.seed, *indices)
        many = getattr(self.dataset, "__getitems__", None)
        return many(indices) if many else [self.dataset[index] for index in indices]


def _leave_an_orphan(parent: int) -> None:
    """End a worker whose main process was killed: multiprocessing would wait for ever for somebody to take its batches.

    The pipe is full, as our batches are arrays and not handles of shared memory, and the workers hold its other end.
    """
    if os.getppid() != parent:
        os._exit(1)


class Undisturbed:
    """Start-up of a worker process: signals to the process group are the main process's business.

    A forked worker is started with them held back; one that is spawned learns it here. A worker ends with its main
    process, whatever ended that.

    Args:
        then: the loader's own start-up function.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # before the finalizer of the queue (exitpriority -5), which is the one that waits
        multiprocessing.util.Finalize(None, _leave_an_orphan, args=(os.getppid(),), exitpriority=0)
        if self.then is not None:
            self.then(worker)


class Epoch:
    """One epoch of a split.

    Args:
        expert: S3PRL's downstream expert.
        split: such as ``train``.
        epoch: its number, from 0.
        seed: of the run.
        start: number of batches to leave out, that an earlier run has used.
    """

    def __init__(self, expert: Any, split: str, *, epoch: int, seed: int, start: int = 0) -> None:
        self.start = start
        with randomness.preserved():
            randomness.seed_host(seed, epoch, "order")
            loader = _loader(expert, split, epoch)
            self.total = len(loader) if not isinstance(loader.dataset, IterableDataset) else None
            # made here, since it draws the workers' seed
            with held():
                self._iterator = iter(_continued(loader, (seed, epoch), start))

    def __iter__(self) -> Iterator[Any]:
        """The remaining batches; reading them leaves the process's random states alone."""
        while True:
            with randomness.preserved():
                try:
                    batch = next(self._iterator)
                except StopIteration:
                    return
            yield batch


def check_split(head: Any, split: str) -> None:
    """Refuse a split for which one of S3PRL's tasks has no loader; ours and some others tell their splits themselves.

    Raises:
        ElpError: naming those that there are.
    """
    names = [found.group(1) for name in dir(type(head)) if (found := re.fullmatch("get_(.+)_dataloader", name))]
    if names and split not in names:
        raise ElpError(f"the task has no split {split!r}; it has: {', '.join(sorted(names))}")


def _loader(expert: Any, split: str, epoch: int) -> DataLoader:
    """The expert's loader; some take the epoch, for others their distributed sampler is told (S3PRL runner.py)."""
    if "epoch" in inspect.signature(expert.get_dataloader).parameters:
        return expert.get_dataloader(split, epoch=epoch)
    loader = expert.get_dataloader(split)
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        loader.sampler.set_epoch(epoch)
    return loader


def _continued(loader: DataLoader, seed: tuple[Any, ...], start: int) -> Any:
    if isinstance(loader.dataset, IterableDataset):  # it has no order to look up
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
    if loader.batch_sampler is None:  # the data set makes batches itself
        return DataLoader(items, batch_size=None, sampler=list(loader.sampler)[start:], **options)
    return DataLoader(items, batch_sampler=list(loader.batch_sampler)[start:], **options)
