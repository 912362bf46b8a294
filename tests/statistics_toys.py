"""Synthetic results of test sets whose speakers differ, and whose true values are known."""

import functools

import numpy as np
from scipy.special import expit, ndtr

from upstream_elp.statistics import Items, interval

SKILL, SPREAD = 1.0, 0.8
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
#: the mean accuracy of all possible speakers
TRUE_ACCURACY = 100.0 * float(expit(SKILL + SPREAD * _NODES) @ _WEIGHTS / _WEIGHTS.sum())
TRUE_RATE = 20.0
VOICE = 0.4
#: scores of one speaker are normal with mean 2, those of two with mean 0; misses equal false alarms in between
TRUE_EER = 100.0 * float(ndtr(-2.0 / (np.sqrt(1.0 + 4 * VOICE**2) + np.sqrt(1.0 + 2 * VOICE**2))))


def counts(rng, speakers):
    """Items of each speaker, between 5 and 30."""
    return rng.integers(5, 31, size=speakers)


def answers(rng, speakers=20, *, shift=0.0):
    """Right and wrong answers; the skill of a speaker's voice varies by ``SPREAD``, in logits."""
    items = counts(rng, speakers)
    chance = expit(SKILL + shift + SPREAD * rng.normal(size=speakers))
    who = np.repeat(np.arange(speakers), items)
    right = rng.random(len(who)) < chance[who]
    return Items(keys(who), names(who), {"acc": right.astype(float)})


def transcripts(rng, speakers=20):
    """Word errors; the rate of a speaker varies between 0 and 40 %."""
    who = np.repeat(np.arange(speakers), counts(rng, speakers))
    rate = 2 * TRUE_RATE / 100 * rng.random(speakers)
    words = rng.integers(4, 20, size=len(who))
    return Items(keys(who), names(who), {"wer_errors": rng.poisson(rate[who] * words), "wer_total": words})


def trials(rng, speakers=20, utterances=4):
    """Scores of all pairs of utterances; some voices are alike, to themselves and to others."""
    who = np.repeat(np.arange(speakers), utterances)
    left, right = np.triu_indices(len(who), k=1)
    first, second = who[left], who[right]
    voice = VOICE * rng.normal(size=speakers)
    same = first == second
    scores = 2.0 * same + voice[first] + voice[second] + rng.normal(size=len(same))
    return Items(keys(first), names(first), {"score": scores, "same": same.astype(float)}, names(second))


def keys(who):
    return [f"item-{place}" for place in range(len(who))]


def names(who):
    return [f"speaker-{number:03d}" for number in who]


def covered(make, truth, *, runs, interval, seed=0):
    """How many of ``runs`` intervals contain the truth, in per cent."""
    hits = 0
    for run in range(runs):
        found = interval(make(np.random.default_rng([seed, run])))
        hits += found.low <= truth <= found.high
    return 100.0 * hits / runs


def main():
    """Print how often intervals contain the truth, by number of speakers (the table in ``docs/statistics.md``)."""
    makers = {
        "accuracy": (answers, TRUE_ACCURACY, 1500),
        "error rate": (transcripts, TRUE_RATE, 1500),
        "EER": (trials, TRUE_EER, 300),
    }
    print(f"| speakers | {' | '.join(makers)} |\n|---{'|---' * len(makers)}|")
    for speakers in (5, 10, 20, 40):
        cells = [
            covered(
                functools.partial(make, speakers=speakers), truth, runs=runs, interval=lambda x: interval(x, draws=300)
            )
            for make, truth, runs in makers.values()
        ]
        print(f"| {speakers} | {' | '.join(f'{cell:.1f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
