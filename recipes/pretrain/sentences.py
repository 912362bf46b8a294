"""Sentences to synthesise: English patterns, random words and invented words, but no sentence of a test set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

PATTERNS = (
    "determiner adjective noun verb determiner noun place determiner noun adverb",
    "pronoun adverb verb determiner adjective noun place determiner adjective noun",
    "determiner noun verb number adjective noun adverb joiner pronoun verb determiner noun",
    "adverb determiner noun place determiner noun verb determiner noun",
    "pronoun verb determiner noun joiner determiner noun verb determiner adjective noun",
    "determiner adjective adjective noun verb adverb place number noun joiner number noun",
    "number noun joiner number noun verb determiner noun adverb place determiner noun",
)
SYLLABLE = ("onset", "vowel", "coda")  # the parts of invented words


def normalise(text: str) -> str:
    """Reduce a sentence to lower-case words, so that equal ones compare as equal."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


class Sentences:
    """A source of sentences that never says one of the given ones, not even as a part of a longer one.

    Args:
        unheard: the sentences to avoid.
    """

    def __init__(self, unheard: Iterable[str] = ()) -> None:
        lines = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines()
        self.words = {kind: text.split() for kind, _, text in (line.partition(": ") for line in lines)}
        self.syllables = [self.words.pop(part) for part in SYLLABLE]
        self.all = sorted({word for words in self.words.values() for word in words})
        self._avoid = {tuple(normalise(text).split()) for text in unheard}
        self._lengths = sorted({len(words) for words in self._avoid})

    def draw(self, rng: np.random.Generator) -> str:
        """Draw a sentence: half follow a grammar, a third are random words, the others invented words."""
        while True:
            kind = rng.random()
            text = " ".join(self._grammar(rng) if kind < 0.5 else self._list(rng, invented=kind > 0.83))
            if not self.contains_unheard(normalise(text).split()):
                return text

    def contains_unheard(self, words: list[str]) -> bool:
        """Return whether one of the sentences to avoid is in a row of words."""
        parts = (
            tuple(words[start : start + length]) for length in self._lengths for start in range(len(words) - length + 1)
        )
        return any(part in self._avoid for part in parts)

    def _grammar(self, rng: np.random.Generator) -> list[str]:
        pattern = PATTERNS[rng.integers(len(PATTERNS))].split()
        return [self.words[kind][rng.integers(len(self.words[kind]))] for kind in pattern]

    def _list(self, rng: np.random.Generator, *, invented: bool) -> list[str]:
        count = rng.integers(5, 9) if invented else rng.integers(7, 14)
        if invented:
            return [self._invent(rng) for _ in range(count)]
        return [self.all[index] for index in rng.integers(len(self.all), size=count)]

    def _invent(self, rng: np.random.Generator) -> str:
        """Invent a pronounceable word of one to three syllables; two in five have no consonant at their end."""
        word = ""
        for _ in range(rng.integers(1, 4)):
            onset, vowel, coda = (options[rng.integers(len(options))] for options in self.syllables)
            word += onset + vowel + (coda if rng.random() < 0.6 else "")
        return word
