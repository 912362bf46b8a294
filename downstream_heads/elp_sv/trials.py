"""Trials: pairs of utterances, and whether one speaker spoke both. Read from a list, or made from held-out speakers."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from downstream_heads.common.options import problem_list
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import locate
from upstream_elp.base.texts import lines, read_text
from upstream_elp.corpora.voxceleb1 import parse_trial

TRIALS_FILE = "voxceleb1_test_v2.txt"
TRIALS_SOURCE = "https://www.openslr.org/resources/49/voxceleb1_test_v2.txt"


class Trial(NamedTuple):
    """One line of a trial list: 1 for the same speaker, and two paths `speaker/video/utterance.wav`."""

    label: int
    first: str
    second: str

    @property
    def name(self) -> str:
        """The pair in SUPERB's submission files: `id-vid-utt_id-vid-utt`."""
        return f"{utterance_name(self.first)}_{utterance_name(self.second)}"


def utterance_name(path: str) -> str:
    """`id/vid/utt.wav` -> `id-vid-utt`."""
    return "-".join(PurePosixPath(path).with_suffix("").parts[-3:])


def read_trials(path: Path, audio: Path, *, keep_absent: bool = False) -> list[Trial]:
    """Reads a list of lines `label path path` (or of the other forms under which such lists are published).

    Args:
        path: the list.
        audio: folder that its paths start from.
        keep_absent: keep trials whose audio is not there: whoever reads it decides.

    Raises:
        ElpError: no list, a line of another form, only one kind of trial, or audio that is not there.
    """
    if not path.is_file():
        raise ElpError(
            f"the trial list {path} does not exist; put {TRIALS_FILE} (from {TRIALS_SOURCE}) into the root of "
            "VoxCeleb1 or set downstream_expert.datarc.trials"
        )
    content = read_text(path, name=f"the trial list {path}")
    trials = [_parse(line, path, number) for number, line in enumerate(lines(content), start=1) if line.strip()]
    if {trial.label for trial in trials} != {0, 1}:
        raise ElpError(f"the trial list {path} needs trials of the same speaker (1) and of two speakers (0)")
    found = locate(audio, utterances(trials))
    absent = [] if keep_absent else [name for name, there in found.items() if there is None]
    if absent:
        raise ElpError(
            f"the trial list {path} names {counted(len(absent), 'utterance')} not below {audio}: "
            f"{problem_list(absent, shown=5)}; get the missing audio or another list"
        )
    names = {name: there or name for name, there in found.items()}
    return [Trial(label, names[first], names[second]) for label, first, second in trials]


def utterances(trials: Sequence[Trial]) -> list[str]:
    """Every utterance that occurs, once, sorted."""
    return sorted({name for trial in trials for name in (trial.first, trial.second)})


def hold_out(speakers: Sequence[str], amount: float | int, *, seed: int) -> list[str]:
    """Chooses speakers for development, sorted; they are the same on every machine and Python version.

    Args:
        speakers: all training speakers.
        amount: a share below 1 (at least two speakers are taken), or a number of speakers.
        seed: the split's own seed, independent of the run's.

    Raises:
        ElpError: the amount makes no sense for that many speakers.
    """
    key = "downstream_expert.datarc.held_out"
    if isinstance(amount, bool) or not isinstance(amount, int | float) or amount <= 0:
        raise ElpError(f"config key {key} is {amount!r}; it must be a share below 1 or a number of speakers from 2 up")
    count = max(2, round(amount * len(speakers))) if amount < 1 else int(amount)
    if count < 2 or len(speakers) - count < 2:
        raise ElpError(
            f"config key {key} is {amount!r}, that is {count} of {len(speakers)} speakers; at least 2 must be held out "
            "and 2 remain for training: change it, or use protocol: superb"
        )
    ranked = sorted(speakers, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return sorted(ranked[:count])


def make_trials(names: Sequence[str], *, per_speaker: int, limit: int, seed: int) -> list[Trial]:
    """Makes trials from held-out speakers: as many of the same speaker as of two speakers, no pair twice.

    Pairs of the same speaker come from two videos where the speaker has several, as recognising a recording is easier
    than recognising a voice. The speaker's sex is not known here, so the pairs of two speakers are of any.

    Args:
        names: paths `speaker/video/utterance.wav`.
        per_speaker: most utterances taken of one speaker.
        limit: most trials.
        seed: the split's own seed.

    Raises:
        ElpError: fewer than two speakers, or no speaker with two utterances.
    """
    rng = random.Random(f"sv-trials-{seed}")
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_speaker[_part(name, 0)].append(name)
    chosen = {speaker: rng.sample(own, min(per_speaker, len(own))) for speaker, own in by_speaker.items()}
    same = _same_speaker(chosen, rng)
    if len(chosen) < 2 or not same:
        raise ElpError(
            "the held-out speakers of VoxCeleb1 have too few utterances for trials (two speakers, one with two "
            "utterances); raise downstream_expert.datarc.held_out or lower min_samples"
        )
    other = _two_speakers(chosen, rng, limit=max(limit // 2, 1))
    count = min(len(same), len(other), max(limit // 2, 1))
    return sorted(
        [*(Trial(1, *pair) for pair in same[:count]), *(Trial(0, *pair) for pair in other[:count])],
        key=lambda trial: (trial.first, trial.second),
    )


def _same_speaker(chosen: dict[str, list[str]], rng: random.Random) -> list[tuple[str, str]]:
    """Pairs within speakers, in turns, so that a cut anywhere leaves every speaker about as many."""
    queues = []
    for own in chosen.values():
        pairs = list(combinations(own, 2))
        across = [pair for pair in pairs if _part(pair[0], 1) != _part(pair[1], 1)]
        queue = across or pairs
        rng.shuffle(queue)
        queues.append(queue)
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _two_speakers(chosen: dict[str, list[str]], rng: random.Random, *, limit: int) -> list[tuple[str, str]]:
    """Up to `limit` different pairs across speakers."""
    everything = [name for own in chosen.values() for name in own]
    total = (len(everything) ** 2 - sum(len(own) ** 2 for own in chosen.values())) // 2
    if total <= 4 * limit:
        pairs = [pair for pair in combinations(everything, 2) if _part(pair[0], 0) != _part(pair[1], 0)]
        return rng.sample(pairs, min(limit, len(pairs)))
    found: dict[frozenset[str], tuple[str, str]] = {}
    while len(found) < limit:
        first, second = rng.choice(everything), rng.choice(everything)
        if _part(first, 0) != _part(second, 0):
            found.setdefault(frozenset((first, second)), (first, second))
    return list(found.values())


def _part(name: str, place: int) -> str:
    return name.split("/")[place]


def _parse(line: str, path: Path, number: int) -> Trial:
    found = parse_trial(line)
    if found is None:
        raise ElpError(
            f"line {number} of the trial list {path} is {line!r}; it must be 'LABEL PATH PATH', label 0 or 1 and "
            "paths speaker/video/file.wav"
        )
    return Trial(found.label, found.first, found.second)
