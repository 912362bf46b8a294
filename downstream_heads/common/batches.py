"""The part of a task that makes its batches, and that undoes the order in which sorted batches are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from downstream_heads.common.batching import Limits, eval_limits, in_order, summary, train_limits
from downstream_heads.common.loaders import eval_loader, process, train_loader
from upstream_elp.audio.skips import SplitSkips
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import mapping


class Batches:
    """Mixin of :class:`downstream_heads.common.base.TaskExpert`.

    Attributes:
        datarc: the checked data block, with the keys of :data:`downstream_heads.common.batching.BATCH_DEFAULTS`.
    """

    task: str
    seed: int
    datarc: dict[str, Any]
    run_args: Mapping[str, Any]
    dataset: Callable[[str], Dataset]
    skip: Callable[[str], SplitSkips | None]
    split_name: Callable[[str], str]
    _reported_batches = False

    def limits(self, split: str, *, size: str = "train_batch_size") -> Limits | None:
        """Return the limits of a split's batches; None if these are not made by length.

        Args:
            split: the split's full name.
            size: the key of ``datarc`` with the utterances in a training batch.
        """
        return train_limits(self.datarc, size=size) if split == "train" else eval_limits(self.datarc)

    def batch_loader(
        self,
        split: str,
        data: Dataset,
        *,
        epoch: int,
        size: str = "train_batch_size",
    ) -> DataLoader:
        """Make a loader with the batches that ``datarc`` asks for.

        Args:
            split: the split's full name.
            data: its data set, with methods ``lengths()`` and, for its files of answers, ``item_names()``.
            epoch: number of the epoch.
            size: the key of ``datarc`` with the utterances in a training batch.
        """
        rc, limits = self.datarc, self.limits(split, size=size)
        options = {"num_workers": rc["num_workers"], "skip": self.skip(split), "limits": limits}
        if split != "train":
            return eval_loader(data, batch_size=rc["eval_batch_size"], **options)
        loader = train_loader(data, batch_size=rc[size], epoch=epoch, seed=self.seed, **options)
        if limits is not None and not self._reported_batches:
            rank, ranks = process()
            if rank == 0:
                line = summary(list(loader.batch_sampler), data.lengths(), limits, ranks=ranks)
                tqdm.write(f"[{self.task}] {line}")
            self._reported_batches = True
        return loader

    def sorts(self, split: str) -> bool:
        """Return whether a split is evaluated in batches of seconds, sorted by length."""
        return self.datarc.get("eval_batch_seconds") is not None and self.split_name(split) != "train"

    def losses(self, split: str, loss: Tensor, count: int) -> list[float]:
        """Return a batch's entries in the list of losses, so that the list's mean is that of the utterances.

        Args:
            split: the split.
            loss: mean loss of the batch.
            count: utterances of the batch; it counts only where batches differ much in their number of utterances.
        """
        return [loss.item()] * (count if self.sorts(split) else 1)

    def data_order(self, split: str, names: Sequence[str], *columns: Sequence[Any]) -> list[list[Any]]:
        """Return names and other columns of evaluated utterances, sorted as in the data set."""
        if not self.sorts(split):
            return [list(column) for column in (names, *columns)]
        order = in_order(names, self.dataset(split).item_names())
        return [[column[place] for place in order] for column in (names, *columns)]

    def check_ratio(self) -> None:
        """Refuse to evaluate only a part of utterances that are sorted by length."""
        ratio = mapping(self.run_args.get("runner"), key="runner").get("evaluate_ratio", 1)
        if self.datarc.get("eval_batch_seconds") is not None and ratio != 1:
            raise ElpError(
                f"config key runner.evaluate_ratio must be 1 with datarc.eval_batch_seconds, but is {ratio}; remove "
                "one of them, as only the longest utterances would be evaluated"
            )
