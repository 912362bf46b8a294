"""The cohort of s-norm: training utterances drawn once, or embeddings that training itself has left."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from downstream_heads.elp_sv.data import TrialUtterances


def cohort_names(records: Iterable[str]) -> list[str]:
    """Return the names of the cohort's utterances among others, in the data set's order."""
    found = [str(name) for name in records if str(name).startswith(TrialUtterances.COHORT)]
    return sorted(found, key=lambda name: int(name.removeprefix(TrialUtterances.COHORT)))


def draw_cohort(names: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Draw training utterances for s-norm without replacement, the same in every run."""
    return random.Random(f"sv-cohort-{seed}").sample(list(names), min(count, len(names)))


class LastEpoch(nn.Module):
    """Embeddings of training utterances, each as training last computed it.

    Which utterances these are is drawn once, with replacement, as in the L-E reference. As an epoch uses every
    utterance once, after the last epoch these are embeddings of that epoch. They are buffers, so that checkpoints
    contain them.

    Args:
        count: number of embeddings.
        dim: their width.
    """

    vectors: Tensor
    seen: Tensor

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(count, dim))
        self.register_buffer("seen", torch.zeros(count, dtype=torch.bool))
        self._places: dict[str, list[int]] = {}

    def draw(self, names: Sequence[str], *, seed: int) -> None:
        """Draw the utterances from those of the training set, the same in every run."""
        places = defaultdict(list)
        drawn = random.Random(f"sv-last-epoch-{seed}").choices(list(names), k=len(self.vectors))
        for place, name in enumerate(drawn):
            places[name].append(place)
        self._places = dict(places)

    @torch.no_grad()
    def note(self, names: Sequence[str], vectors: Tensor) -> None:
        """Keep the embeddings ``(batch, dim)`` of the utterances that were drawn."""
        pairs = [(place, row) for row, name in enumerate(names) for place in self._places.get(name, ())]
        if pairs:
            places, rows = map(list, zip(*pairs, strict=True))
            self.vectors[places] = vectors[rows].to(self.vectors)
            self.seen[places] = True

    def known(self) -> Tensor:
        """Return the embeddings that training has computed so far, on the CPU. Shape: ``(seen, dim)``."""
        return self.vectors[self.seen].cpu()
