"""The plan of a mini corpus, before anything is synthesised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upstream_elp.mini.effects import Conditions
from upstream_elp.mini.voices import Casting, Speaker, Voice

SIZES = ("tiny", "small", "full")


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One file to make. `seed` and `channel_seed` are seeds for `numpy.random.default_rng`.

    `label` is what the task predicts, unless that is the text: an intent, an emotion or the speaker.
    """

    split: str
    speaker: str
    path: str  # relative to the corpus, with forward slashes
    text: str
    voice: Voice
    accent: str
    pitch: int
    pitch_range: int
    rate: int
    seed: tuple[int, ...]
    channel_seed: tuple[int, ...]
    label: str = ""
    tract: float = 1.0
    tilt: float = 0.0
    max_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A corpus: its utterances, its tables, its speakers, and how difficult its recordings are.

    `tables` takes the number of samples of every utterance, in order, and returns texts by relative path. A voice or a
    sentence only occurs in one split.
    """

    name: str
    utterances: tuple[Utterance, ...]
    tables: Callable[[Sequence[int]], dict[str, str]]
    conditions: Conditions = field(default_factory=Conditions)

    def voices(self) -> dict[str, list[str]]:
        """Return the names of the voices of each split, in the order of the splits."""
        heard: dict[str, set[str]] = {}
        for utterance in self.utterances:
            heard.setdefault(utterance.split, set()).add(utterance.voice.name)
        return {split: sorted(names) for split, names in heard.items()}


class Seeds:
    """Seeds that depend only on the user's seed, the corpus and a counter, and not on the order of execution.

    Args:
        seed: of everything random.
        corpus: number of the corpus.
        voices: seed of the speakers, if it is another one.
    """

    def __init__(self, seed: int, corpus: int, *, voices: int | None = None) -> None:
        self.base = (seed, corpus)
        self.voices = seed if voices is None else voices

    def plan(self) -> np.random.Generator:
        return np.random.default_rng((*self.base, 0))

    def casting(self, *, spread: float = 1.0) -> Casting:
        return Casting(self.voices, self.base[1], spread=spread)

    def utterance(self, index: int) -> tuple[int, ...]:
        return (*self.base, 1, index)

    def channel(self, index: int) -> tuple[int, ...]:
        return (*self.base, 2, index)


def make_utterance(
    speaker: Speaker,
    *,
    split: str,
    speaker_id: str,
    path: Path | str,
    text: str,
    seed: tuple[int, ...],
    channel_seed: tuple[int, ...],
    rng: np.random.Generator,
    label: str = "",
    pitch_shift: float = 0.0,
    range_shift: float = 0.0,
    pace: float = 1.0,
    tilt: float = 0.0,
    max_samples: int | None = None,
) -> Utterance:
    """Let a speaker say something; pitch and pace vary a little from one utterance to the next."""
    return Utterance(
        split=split,
        speaker=speaker_id,
        path=str(path),
        text=text,
        voice=speaker.voice,
        accent=speaker.accent,
        label=label,
        tract=speaker.tract,
        pitch=int(np.clip(speaker.pitch + pitch_shift + rng.integers(-3, 4), 0, 99)),
        pitch_range=int(np.clip(speaker.pitch_range + range_shift + rng.integers(-4, 5), 0, 99)),
        rate=int(np.clip(speaker.rate * pace * rng.uniform(0.96, 1.04), 90, 320)),
        seed=seed,
        channel_seed=channel_seed,
        tilt=tilt,
        max_samples=max_samples,
    )


class Sentences:
    """Draws sentences such that no sentence is in two splits.

    Args:
        draw: returns a random sentence.
    """

    def __init__(self, draw: Callable[[], str]) -> None:
        self._draw = draw
        self._split_of: dict[str, str] = {}

    def draw(self, split: str) -> str:
        """Return a sentence that has not been drawn for another split."""
        while True:
            text = self._draw()
            if self._split_of.setdefault(text, split) == split:
                return text
