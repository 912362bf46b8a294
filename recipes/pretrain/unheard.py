"""What pretraining must not hear: the voices of mini-SUPERB's dev and test sets, and the sentences of its tests."""

from __future__ import annotations

import functools

from upstream_elp.mini import fluent, iemocap, librispeech, voxceleb
from upstream_elp.mini.superb import plan_corpora
from upstream_elp.mini.utterances import SIZES, Plan, Utterance

SEEDS = (0,)
#: the part of each corpus that only serves training; the others, and all of IEMOCAP (five folds), serve dev or test
TRAINING = {librispeech.NAME: "train-clean-100", voxceleb.NAME: None, fluent.NAME: "train", iemocap.NAME: None}
#: SV's dev set consists of training speakers that it holds out, so all of VoxCeleb1 counts as dev or test
TESTS = {librispeech.NAME: "test-clean", voxceleb.NAME: "test", fluent.NAME: "test", iemocap.NAME: None}


@functools.cache
def plans(seeds: tuple[int, ...] = SEEDS) -> tuple[Plan, ...]:
    """Plan every size with every seed, as `elp mini-superb` does by default."""
    settings = ({"size": size, "seed": seed, "voices": None} for seed in seeds for size in SIZES)
    return tuple(plan for each in settings for plan in plan_corpora(each))


def evaluated(plan: Plan) -> list[Utterance]:
    """Return the utterances of a corpus that are in a dev or test set of any fold."""
    return [utterance for utterance in plan.utterances if utterance.split != TRAINING[plan.name]]


def tested(plan: Plan) -> list[Utterance]:
    """Return the utterances of a corpus that are in a test set of any fold."""
    return [utterance for utterance in plan.utterances if TESTS[plan.name] in (None, utterance.split)]


def unheard_voices(seeds: tuple[int, ...] = SEEDS) -> frozenset[str]:
    """Return the eSpeak variants of all dev and test sets."""
    return frozenset(item.voice.split("+")[1] for plan in plans(seeds) for item in evaluated(plan))


def unheard_sentences(seeds: tuple[int, ...] = SEEDS) -> frozenset[str]:
    """Return the sentences of all test sets."""
    return frozenset(item.text for plan in plans(seeds) for item in tested(plan))
