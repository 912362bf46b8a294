"""The features of a run whose frozen part is computed once per utterance, and each utterance by itself."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from upstream_elp.adapters.lowest import Place
from upstream_elp.audio.excerpt import Excerpt
from upstream_elp.base.choices import torch_type
from upstream_elp.base.errors import counted
from upstream_elp.caching import checks
from upstream_elp.caching.choice import Choice
from upstream_elp.caching.store import ADVICE, Shards, Store, stored_as
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.replay import Begin, Replay, Upstream

logger = logging.getLogger(__name__)


class Featurizer(Protocol):
    """S3PRL's featurizer: waves (of which it needs the lengths) and the upstream's output to (frames, dim) each."""

    def __call__(self, wavs: list[Tensor], states: dict[str, Any]) -> list[Tensor]: ...


class OneByOne:
    """The features of each utterance by itself, if nothing of the upstream is known to stay the same.

    Args:
        device: where the upstream is.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device

    def __call__(self, model: Upstream, featurizer: Featurizer, wavs: Sequence[Any], split: str | None) -> list[Tensor]:
        """Return the head's input; the arguments are those of :meth:`FrozenFeatures.__call__`."""
        features = []
        for wav in wavs:
            one = [torch.as_tensor(wav, dtype=torch.float32).to(self.device)]
            features += featurizer(one, model(one))
        return features

    def flush(self) -> None:
        """Do nothing."""

    def __str__(self) -> str:
        return "computed for each utterance by itself in every step"


class FrozenFeatures:
    """Computes the frozen part of each utterance by itself, once, and the trained part in every step.

    Args:
        expert: the upstream, without what wraps it for several processes.
        choice: what is computed once.
        states: indices of the hidden states that the head sees.
        dtype: type in which features are kept; None as they are computed.
    """

    def __init__(self, expert: ElpExpert, choice: Choice, *, states: Sequence[int], dtype: str | None = None) -> None:
        self.expert = expert
        self.choice = choice
        self.dtype = None if dtype is None else torch_type(dtype)
        self.store: Store | None = None
        """Where they are kept; None to compute them in every step."""
        self.lower: dict[Place, Shards] = {}
        """What other runs keep of lower places, from which to begin; the highest first."""
        self._begins: dict[Place, bool] = {}
        """Of the places of which something was found: whether the features are then the same."""
        self.kept: Callable[[str], bool] = lambda split: True
        """Whether a split's waves are the same in every epoch, so that keeping their features helps."""
        self.found = self.computed = 0
        """How many utterances came from the cache, and how many had to be computed."""
        self._reported = False
        self.replay = expert.replay = Replay(expert, choice.place, states=states)

    def __call__(self, model: Upstream, featurizer: Featurizer, wavs: Sequence[Any], split: str | None) -> list[Tensor]:
        """Return the head's input, (frames, dim) per utterance.

        Args:
            model: calls the expert, or what wraps it for several processes.
            featurizer: S3PRL's.
            wavs: arrays or tensors of shape (samples,), on the CPU, or excerpts.
            split: the split that they belong to; None for other files, which are not kept.
        """
        device = next(self.expert.backbone.parameters()).device
        parts = self.parts(wavs, split)
        return featurizer(*self.replay.run(model, [part.to(device, non_blocking=True) for part in parts]))

    def parts(self, wavs: Sequence[Any], split: str | None) -> list[Tensor]:
        """Return the frozen part of each utterance on the CPU, (recorded, frames, width); keep what was computed."""
        store = self.store if split is not None and self.kept(split) else None
        found = [self._excerpt(wav, store) if isinstance(wav, Excerpt) else self._part(wav, store) for wav in wavs]
        return found if self.dtype is None else [part.float() for part in found]

    def _excerpt(self, excerpt: Excerpt, store: Store | None) -> Tensor:
        frames = int(self.expert.injection.frame_len(torch.tensor([excerpt.samples])))
        return excerpt.cut(self._part(excerpt.wave, store), frames)

    def _part(self, samples: Any, store: Store | None) -> Tensor:
        wav = torch.as_tensor(samples, dtype=torch.float32)
        key = "" if store is None else key_of(wav)
        if store is not None and (part := store.get(key)) is not None:
            self.found += 1
            return part
        self.computed += 1
        device = next(self.expert.backbone.parameters()).device
        part = self.replay.record(self.expert, wav.to(device), begin=self._begin(key, device) if key else None)
        part = stored_as(part.mean(dim=1, keepdim=True) if self.choice.pooled else part, self.dtype)
        if store is not None:
            store.put(key, part)
            self._report(store)
        return part

    def _begin(self, key: str, device: torch.device) -> Begin | None:
        """Return what another run has computed of an utterance, if anything."""
        for place, shards in self.lower.items():
            if (part := shards.get(key)) is not None and self._may_begin(place):
                return Begin(place, part.to(device))
        return None

    def _may_begin(self, place: Place) -> bool:
        if place not in self._begins:  # only now, as a check takes as long as several short utterances
            self._begins[place] = checks.begins(self.expert, self.replay, place)
        return self._begins[place]

    def _report(self, store: Store) -> None:
        """Say once that nothing more is kept."""
        if store.full and not self._reported:
            self._reported = True
            logger.warning("%s, so other utterances are computed in every step; %s", store.full, ADVICE)

    def flush(self) -> None:
        """Write what has been computed since the last shard."""
        if self.store is not None:
            self.store.flush()
            self._report(self.store)

    def __str__(self) -> str:
        if self.store is None:
            return f"computed for each utterance by itself in every step: {self.choice}"
        there = counted(len(self.store), "utterance")
        return f"computed once per utterance: {self.choice}; kept in {self.store.folder}, which has {there}"


def key_of(wav: Tensor) -> str:
    """Return the key of a wave: a digest of its samples, whatever file and preprocessing they come from."""
    return hashlib.blake2b(wav.contiguous().numpy(), digest_size=16).hexdigest()
