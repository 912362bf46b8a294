"""Batches of utterances of similar length, which contain little padding.

In training, utterances are sorted into length buckets, shuffled within these, and cut into batches, whose order is then
shuffled too. All of this depends only on seed and epoch. In evaluation, utterances are sorted by length.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from upstream_elp.audio.formats import SAMPLE_RATE
from upstream_elp.base.errors import counted
from upstream_elp.base.values import boolean, number

WIDTH = 1.1
"""The longest utterance of a bucket is at most this many times as long as its shortest."""
BATCH_DEFAULTS = {"train_batch_seconds": None, "eval_batch_seconds": None, "length_buckets": False}
"""Keys of ``datarc`` about batches that all tasks have."""


@dataclass(frozen=True)
class Limits:
    """How large a batch may be; an utterance that exceeds ``samples`` is a batch of its own.

    Attributes:
        samples: most samples of a padded batch, which is its longest utterance times the number of utterances.
        utterances: most utterances.
    """

    samples: int | None = None
    utterances: int | None = None

    def allow(self, count: int, longest: int) -> bool:
        """Return whether a batch may have ``count`` utterances of at most ``longest`` samples."""
        small = self.samples is None or count * longest <= self.samples
        return count == 1 or (small and (self.utterances is None or count <= self.utterances))

    def __str__(self) -> str:
        parts = [f"{self.samples / SAMPLE_RATE:g} s with padding"] if self.samples is not None else []
        parts += [counted(self.utterances, "utterance")] if self.utterances is not None else []
        return " and ".join(parts)


def check_batch_options(options: Mapping[str, Any], *, where: str) -> None:
    """Check the keys of :data:`BATCH_DEFAULTS`.

    Raises:
        ElpError: a value is neither a positive number of seconds nor null, or not true or false.
    """
    for key in ("train_batch_seconds", "eval_batch_seconds"):
        if options[key] is not None:
            number(options[key], key=f"{where}.{key}", above=0)
    boolean(options["length_buckets"], key=f"{where}.length_buckets")


def train_limits(options: Mapping[str, Any], *, size: str = "train_batch_size") -> Limits | None:
    """Return the limits of training batches; None for batches of random utterances.

    Args:
        options: the checked data block.
        size: its key with the number of utterances.
    """
    seconds, buckets = options["train_batch_seconds"], options["length_buckets"]
    if seconds is None and not buckets:
        return None
    return Limits(_samples(seconds), options[size] if buckets else None)


def eval_limits(options: Mapping[str, Any]) -> Limits | None:
    """Return the limits of evaluation batches; None for batches in the data set's order."""
    seconds = options["eval_batch_seconds"]
    return None if seconds is None else Limits(_samples(seconds))


def _samples(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * SAMPLE_RATE)


def train_batches(lengths: Sequence[int], limits: Limits, *, seed: int, epoch: int, ranks: int = 1) -> list[list[int]]:
    """Draw the batches of an epoch, in which every utterance occurs once.

    Several ranks share the batches of a single process; if their number is not divisible, the batches with the most
    utterances are halved. Only if there are fewer utterances than ranks need, some occur twice.

    Args:
        lengths: samples of each utterance.
        limits: how large a batch may be.
        seed: seed of the run.
        epoch: number of the epoch.
        ranks: number of processes, of which each takes every ``ranks``-th batch.

    Returns:
        Positions in ``lengths``.
    """
    rng = random.Random(f"batches-{seed}-{epoch}")
    shift = rng.random()  # so that different utterances share a bucket in each epoch
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda place: -math.floor(math.log(max(lengths[place], 1), WIDTH) + shift))  # keeps ties shuffled
    batches = cut(order, lengths, limits)
    rng.shuffle(batches)
    return _divisible(batches, ranks)


def eval_batches(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Cut utterances sorted by length into batches; the longest come first, so that a lack of memory shows early."""
    return cut(sorted(range(len(lengths)), key=lambda place: -lengths[place]), lengths, limits)


def cut(order: Sequence[int], lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Cut a sequence of utterances into batches that are as large as the limits allow."""
    batches: list[list[int]] = []
    longest = 0
    for place in order:
        longest = max(longest, lengths[place])
        if batches and limits.allow(len(batches[-1]) + 1, longest):
            batches[-1].append(place)
        else:
            batches.append([place])
            longest = lengths[place]
    return batches


def _divisible(batches: list[list[int]], ranks: int) -> list[list[int]]:
    """Make the number of batches divisible by the number of ranks."""
    batches = list(batches)
    while len(batches) % ranks:
        place = max(range(len(batches)), key=lambda one: len(batches[one]))
        largest = batches[place]
        if len(largest) == 1:  # repeat some, as DistributedSampler does
            return [*batches, *islice(cycle(batches), -len(batches) % ranks)]
        batches[place : place + 1] = [largest[::2], largest[1::2]]
    return batches


def summary(batches: Sequence[Sequence[int]], lengths: Sequence[int], limits: Limits, *, ranks: int = 1) -> str:
    """Describe the batches of an epoch, or a rank's share of them, in one line."""
    held = sum(lengths[place] for batch in batches for place in batch)
    padded = sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)
    mean = sum(map(len, batches)) / len(batches)
    line = (
        f"batches of at most {limits}: {len(batches)} in an epoch{' of each process' if ranks > 1 else ''}, with "
        f"{mean:.1f} utterances on average and {100 * (1 - held / max(padded, 1)):.1f} % padding"
    )
    oversized = sum(
        limits.samples is not None and lengths[place] > limits.samples for batch in batches for place in batch
    )
    if oversized:
        what = counted(oversized, "utterance is", "utterances are")
        line += f"; {what} longer than that, each in a batch of its own"
    return line


def in_order(found: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the order that sorts evaluated utterances as they are in the data set.

    Args:
        found: names of the utterances in the order of evaluation; some may be missing.
        names: names of all items of the data set. A name may occur several times; its items were evaluated in the data
            set's order, as they are equally long.

    Returns:
        Positions in ``found``.
    """
    places: dict[str, deque[int]] = defaultdict(deque)
    for place, name in enumerate(names):
        places[name].append(place)
    of = [places[name].popleft() for name in found]
    return sorted(range(len(found)), key=of.__getitem__)
