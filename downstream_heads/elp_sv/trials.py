"""Trials of this task: read from a list, or made from held-out speakers."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import Problem
from upstream_elp.base.values import is_number, wrong_value
from upstream_elp.corpora.trials import Trial, place_trials, trial_problems, utterance_name, utterances
from upstream_elp.corpora.trials import read_trials as read_list
from upstream_elp.corpora.voxceleb1 import LISTS

__all__ = [
    "Trial",
    "choose_speakers",
    "drawing",
    "hold_out",
    "make_trials",
    "read_trials",
    "speaker_of",
    "trials_path",
    "utterance_name",
    "utterances",
]

TRIALS_FILE = LISTS[0]
TRIALS_SOURCE = f"https://www.openslr.org/resources/49/{TRIALS_FILE}"


def trials_path(root: Path, given: str | Path | None) -> Path:
    """Return the path of the trial list: the given one, or SUPERB's in the corpus' root.

    The name of one of VoxCeleb1's own lists, such as ``veri_test2.txt``, means the one in the root or in its folder
    ``meta``.
    """
    if given is None:
        return root / TRIALS_FILE
    path = Path(given).expanduser()
    if str(given) not in LISTS or path.is_file():
        return path
    return root / "meta" / path if (root / "meta" / path).is_file() else root / path


def read_trials(path: Path, root: Path, *, there: Collection[str]) -> tuple[list[Trial], list[Problem]]:
    """Read the trials of the test set.

    Args:
        path: the list.
        root: the corpus.
        there: files of the test set as ``speaker/video/file.wav``.

    Returns:
        The trials, with the names of files on disk, and their problems.
    """
    if not path.is_file():
        sentence = f"the trial list {path} is missing; get it from {TRIALS_SOURCE} or set "
        sentence += "downstream_expert.datarc.trials."
        return [], [Problem("layout", str(path), sentence, False)]
    read = place_trials(root, read_list(path))
    return read.trials, trial_problems(path.name, read, root=root, there=set(there))


def choose_speakers(everyone: Sequence[str], options: Mapping[str, Any], *, folder: Path) -> list[str]:
    """Return the speakers that the protocol holds out for development, sorted; none with the protocol `superb`.

    Args:
        everyone: all training speakers.
        options: the checked data block.
        folder: their folder, for the message.

    Raises:
        ElpError: there are too few speakers.
    """
    if len(everyone) < 2:
        raise ElpError(
            f"{folder} contains {counted(len(everyone), 'speaker')}, but at least 2 are needed; unpack VoxCeleb1's dev "
            "part there (<speaker>/<video>/<utterance>.wav)"
        )
    if options["protocol"] != "dev":
        return []
    return hold_out(everyone, options["held_out"], seed=options["split_seed"])


def hold_out(speakers: Sequence[str], amount: float | int, *, seed: int) -> list[str]:
    """Choose speakers for development, the same on every machine and Python version; they are sorted.

    Args:
        speakers: all training speakers.
        amount: a share below 1 (but at least two speakers), or a number of speakers.
        seed: the split's own seed, independent of the run's.

    Raises:
        ElpError: the amount does not fit the number of speakers.
    """
    key = "downstream_expert.datarc.held_out"
    if not is_number(amount) or amount <= 0:
        raise wrong_value(amount, "a share below 1 or a number of at least 2 speakers", key=key)
    count = max(2, round(amount * len(speakers))) if amount < 1 else int(amount)
    if count < 2 or len(speakers) - count < 2:
        raise ElpError(
            f"config key {key} is {amount!r}, which is {count} of {len(speakers)} speakers, but at least 2 must be "
            "held out and at least 2 must remain for training; change it, or use protocol: superb"
        )
    ranked = sorted(speakers, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return sorted(ranked[:count])


def speaker_of(name: str) -> str:
    """Return the speaker of an utterance `speaker/video/utterance.wav`."""
    return name.split("/")[0]


def video_of(name: str) -> str:
    """Return the recording that an utterance `speaker/video/utterance.wav` is from."""
    return name.split("/")[1]


def drawing(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the options of :func:`make_trials` that the data block sets."""
    keys = {"per_speaker": "dev_utterances", "limit": "dev_trials", "seed": "split_seed"}
    return {name: options[key] for name, key in keys.items()}


def make_trials(
    names: Sequence[str],
    *,
    per_speaker: int,
    limit: int,
    seed: int,
    speaker: Callable[[str], str] = speaker_of,
    recording: Callable[[str], str] = video_of,
    whose: str = "the held-out speakers of VoxCeleb1",
    advice: str = "raise downstream_expert.datarc.held_out or lower min_samples",
) -> list[Trial]:
    """Make trials from unseen speakers: as many of the same speaker as of two speakers, no pair twice.

    Pairs of the same speaker come from two recordings if the speaker has several, as recognising a recording is easier
    than recognising a voice. The sex of speakers is unknown here, so pairs of two speakers may be of any.

    Args:
        names: the utterances.
        per_speaker: maximum number of utterances of one speaker.
        limit: maximum number of trials.
        seed: the split's own seed.
        speaker: returns the speaker of an utterance.
        recording: returns the recording that an utterance is from.
        whose: beginning of the error.
        advice: its end.

    Raises:
        ElpError: there are fewer than two speakers, or no speaker has two utterances.
    """
    rng = random.Random(f"sv-trials-{seed}")
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_speaker[speaker(name)].append(name)
    chosen = {speaker: rng.sample(own, min(per_speaker, len(own))) for speaker, own in by_speaker.items()}
    same = _same_speaker(chosen, rng, recording)
    if len(chosen) < 2 or not same:
        raise ElpError(
            f"{whose} have too few utterances for trials, which need two speakers and one with two utterances; {advice}"
        )
    other = _two_speakers(chosen, rng, speaker, limit=max(limit // 2, 1))
    count = min(len(same), len(other), max(limit // 2, 1))
    return sorted(
        [*(Trial(1, *pair) for pair in same[:count]), *(Trial(0, *pair) for pair in other[:count])],
        key=lambda trial: (trial.first, trial.second),
    )


def _same_speaker(
    chosen: dict[str, list[str]], rng: random.Random, recording: Callable[[str], str]
) -> list[tuple[str, str]]:
    """Return pairs of the same speaker, taking turns, so that a cut anywhere leaves every speaker about as many."""
    queues = []
    for own in chosen.values():
        pairs = list(combinations(own, 2))
        across = [pair for pair in pairs if recording(pair[0]) != recording(pair[1])]
        queue = across or pairs
        rng.shuffle(queue)
        queues.append(queue)
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _two_speakers(
    chosen: dict[str, list[str]], rng: random.Random, speaker: Callable[[str], str], *, limit: int
) -> list[tuple[str, str]]:
    """Return up to `limit` different pairs of two speakers."""
    everything = [name for own in chosen.values() for name in own]
    total = (len(everything) ** 2 - sum(len(own) ** 2 for own in chosen.values())) // 2
    if total <= 4 * limit:
        pairs = [pair for pair in combinations(everything, 2) if speaker(pair[0]) != speaker(pair[1])]
        return rng.sample(pairs, min(limit, len(pairs)))
    found: dict[frozenset[str], tuple[str, str]] = {}
    while len(found) < limit:
        first, second = rng.choice(everything), rng.choice(everything)
        if speaker(first) != speaker(second):
            found.setdefault(frozenset((first, second)), (first, second))
    return list(found.values())
