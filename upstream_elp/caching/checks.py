"""Checks on waves of noise: does a replay give the same features?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from upstream_elp.adapters.lowest import Place
from upstream_elp.base.randomness import preserved
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.replay import Begin, Replay

SAME = 1e-4
"""Largest difference, relative to the norm, that counts as rounding in float32."""


def replays(expert: ElpExpert, replay: Replay) -> bool:
    """Return whether a batch of recorded utterances has the hidden states of each utterance by itself."""
    waves = _waves(expert)
    with _for_a_check(expert):
        single = _each(expert, waves)
        parts = [replay.record(expert, wav) for wav in waves]
        states = replay.run(expert, parts)[1]["hidden_states"]
    return _equal([[state[row] for state in states] for row in range(len(waves))], single)


def begins(expert: ElpExpert, replay: Replay, place: Place) -> bool:
    """Return whether a record that begins from one at a lower place is the same bit by bit."""
    with _for_a_check(expert):
        pairs = [
            (
                replay.record(expert, wav),
                replay.record(expert, wav, begin=Begin(place, replay.record(expert, wav, until=place))),
            )
            for wav in _waves(expert)
        ]
    return all(torch.equal(whole, begun) for whole, begun in pairs)


def _each(expert: ElpExpert, waves: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the head's hidden states of each utterance, (frames, dim) each."""
    lengths = [int(expert.check_wavs([wav])) for wav in waves]
    found = [expert([wav])["hidden_states"] for wav in waves]
    return [[state[0, :frames] for state in states] for states, frames in zip(found, lengths, strict=True)]


def _equal(batch: Sequence[Sequence[Tensor]], single: Sequence[Sequence[Tensor]]) -> bool:
    pairs = [pair for rows in zip(batch, single, strict=True) for pair in zip(*rows, strict=True)]
    return all(bool((one[: len(other)] - other).norm() <= SAME * other.norm()) for one, other in pairs)


def _waves(expert: ElpExpert) -> list[Tensor]:
    """Return waves of noise whose lengths leave different remainders when divided by the stride."""
    front, like = expert.injection.front, next(expert.backbone.parameters())
    lengths = (
        front.samples(12) + front.stride // 4,
        front.samples(9) + front.stride - 1,
        front.samples(11),
        front.samples(7) + front.stride // 2,
    )
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(samples, generator=generator).to(like) for samples in lengths]


@contextlib.contextmanager
def _for_a_check(expert: ElpExpert) -> Iterator[None]:
    """Evaluation mode without gradients; modes, random states and the expert's counters are restored."""
    modes = [(module, module.training) for module in expert.modules()]
    trained, expert.trained = expert.trained, True
    expert.eval()
    try:
        with torch.no_grad(), preserved(next(expert.backbone.parameters()).device):
            yield
    finally:
        expert.trained = trained
        for module, mode in modes:
            module.training = mode
