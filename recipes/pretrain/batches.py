"""Training batches: two crops of each utterance, what is heard, what is masked, and the labels.

A batch only depends on the seed, the step and the process, so a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from acoustics import FIELD
from augment import Augment
from model import STRIDE
from speech import Speech, Utterance
from torch import Tensor

from upstream_elp.base.errors import ElpError


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """Sizes of a batch, and how it is masked."""

    pairs: int = 8
    frames: int = 128
    span: int = 5
    mask: float = 0.08
    """Probability that a masked span starts at a frame; a third of the frames are masked by default."""

    @property
    def samples(self) -> int:
        return (self.frames - 1) * STRIDE + FIELD


@dataclass
class Batch:
    """Waves (batch, samples), mask and labels (batch, frames); rows 2 i and 2 i + 1 are crops of one utterance."""

    waves: Tensor
    mask: Tensor
    labels: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        labels = {name: label.to(device) for name, label in self.labels.items()}
        return Batch(self.waves.to(device), self.mask.to(device), labels)


class Batches:
    """Draws batches.

    Args:
        speech: the clean speech.
        labels: targets by name and shard.
        shape: sizes of a batch.
        seed: seed of everything random.
    """

    def __init__(
        self, speech: Speech, labels: Mapping[str, Sequence[np.ndarray]], shape: BatchShape, *, seed: int
    ) -> None:
        self.speech, self.labels, self.shape, self.seed = speech, labels, shape, seed
        self.training, self.validation = speech.split(shape.samples + STRIDE)
        if not self.training:
            raise ElpError(f"{speech.folder} has no utterance of {shape.samples} samples; lower --frames")
        self._augment = Augment(shape.samples, seed=seed)

    def train(self, step: int, rank: int = 0) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng((self.seed, 6, step, rank))
        items = [self.training[index] for index in rng.integers(len(self.training), size=self.shape.pairs)]
        return self._batch(items, rng, augment=True)

    def validate(self, count: int) -> list[Batch]:
        """Return the same batches at every call: clean utterances of voices that are not trained on."""
        rng, pairs, pool = np.random.default_rng(7), self.shape.pairs, self.validation or self.training
        order = [pool[index] for index in rng.permutation(len(pool))][: count * pairs]
        groups = [order[start : start + pairs] for start in range(0, len(order), pairs)]
        return [self._batch(group, rng, augment=False) for group in groups]

    def _batch(self, items: Sequence[Utterance], rng: np.random.Generator, *, augment: bool) -> Batch:
        shape = self.shape
        waves = np.empty((2 * len(items), shape.samples), dtype=np.float32)
        labels = {name: np.empty((2 * len(items), shape.frames), dtype=np.int64) for name in self.labels}
        for row, item in enumerate(item for item in items for _ in range(2)):
            first = int(rng.integers((item.samples - shape.samples) // STRIDE + 1))
            waves[row] = self.speech.wave(item, first * STRIDE, shape.samples)
            start = item.start // STRIDE + first
            for name, label in labels.items():
                label[row] = self.labels[name][item.shard][start : start + shape.frames]
        heard = self._augment(waves, rng) if augment else torch.from_numpy(waves)
        starts = torch.from_numpy(rng.random((len(waves), shape.frames)) < shape.mask)
        mask = starts.clone()
        for shift in range(1, shape.span):
            mask[:, shift:] |= starts[:, :-shift]
        return Batch(
            F.layer_norm(heard, heard.shape[1:]),
            mask,
            {name: torch.from_numpy(label) for name, label in labels.items()},
        )
