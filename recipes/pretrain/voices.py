"""The talkers of pretraining: drawn voices, which are not those of mini-SUPERB, with accents and habits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upstream_elp.mini import voices
from upstream_elp.mini.voices import ACCENTS, Voice

PREFIX = "elp-"


@dataclass(frozen=True, kw_only=True)
class Talker:
    """A voice with an accent and habits; `tract` is the factor by which resampling shortens the vocal tract."""

    voice: int
    accent: str
    pitch: float
    pitch_range: float
    rate: float
    tract: float


def draw_voice(seed: int, index: int) -> Voice:
    """Draw a voice, which depends only on the seed and its number."""
    return voices.draw_voice(f"{PREFIX}{index:04d}", rng=np.random.default_rng((seed, 1, index)))


def draw_talker(rng: np.random.Generator, *, count: int) -> Talker:
    """Draw someone who speaks with one of the voices."""
    return Talker(
        voice=int(rng.integers(count)),
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        pitch=rng.uniform(25, 75),
        pitch_range=rng.uniform(12, 92),
        rate=175 * np.exp(rng.uniform(np.log(0.76), np.log(1.32))),
        tract=float(np.exp(rng.uniform(np.log(0.88), np.log(1.14)))),
    )
