"""What pretraining must not hear: the voices of mini-SUPERB, and the sentences of its tests."""

from __future__ import annotations

import functools

from upstream_elp.mini import fluent, iemocap, librispeech, voxceleb
from upstream_elp.mini.superb import plan_corpora
from upstream_elp.mini.utterances import SIZES, Plan, Utterance

SEEDS = (0,)  # speakers of other seeds are other draws, so they are not heard either
#: the test set of each corpus; each of IEMOCAP's five sessions is one
TESTS = {librispeech.NAME: "test-clean", voxceleb.NAME: "test", fluent.NAME: "test", iemocap.NAME: None}


@functools.cache
def plans(seeds: tuple[int, ...] = SEEDS) -> tuple[Plan, ...]:
    """Plan every size with every seed."""
    settings = ({"size": size, "seed": seed, "voices": None} for seed in seeds for size in SIZES)
    return tuple(plan for each in settings for plan in plan_corpora(each))


def tested(plan: Plan) -> list[Utterance]:
    """Return the utterances of a corpus that are in a test set of any fold."""
    return [utterance for utterance in plan.utterances if TESTS[plan.name] in (None, utterance.split)]


def unheard_voices(seeds: tuple[int, ...] = SEEDS) -> frozenset[str]:
    """Return the sound of all voices, those of the training sets included."""
    return frozenset(item.voice.sound for plan in plans(seeds) for item in plan.utterances)


def unheard_sentences(seeds: tuple[int, ...] = SEEDS) -> frozenset[str]:
    """Return the sentences of all test sets."""
    return frozenset(item.text for plan in plans(seeds) for item in tested(plan))
