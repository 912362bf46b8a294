"""Voices of our own: eSpeak NG variants with drawn formants, pitch and timbre.

Nearly all of eSpeak's own variants speak in a dev or test set of mini-SUPERB, so pretraining draws its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upstream_elp.mini.espeak import Espeak, require_loader
from upstream_elp.mini.voices import ACCENTS

PREFIX = "elp-"


@dataclass(frozen=True, kw_only=True)
class Voice:
    """An eSpeak NG variant: the name and the text of its file."""

    name: str
    text: str


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
    """Draw a voice, which depends only on the seed and its number. The numbers of a variant are per cent or Hz."""
    rng = np.random.default_rng((seed, 1, index))
    woman = rng.random() < 0.45
    base = rng.uniform(150, 250) if woman else rng.uniform(72, 150)
    scale = 100 * np.exp(rng.normal(0.13 if woman else 0.0, 0.07))
    lines = [f"pitch {base:.0f} {base * rng.uniform(1.1, 1.6):.0f}", f"flutter {rng.integers(0, 13)}"]
    lines.append(f"roughness {rng.integers(0, 5)}")
    for formant in range(9):
        frequency = scale * np.exp(rng.normal(0, 0.08 if formant else 0.12))
        strength, width = rng.uniform(55, 150) * (1.0 if formant < 4 else 0.8), rng.uniform(70, 170)
        lines.append(f"formant {formant} {frequency:.0f} {strength:.0f} {width:.0f}")
    if rng.random() < 0.7:
        points = zip((600, 1200, 2400, 4200), rng.integers(40, 256, size=4), strict=True)
        lines.append("tone " + " ".join(f"{round(hertz * rng.uniform(0.7, 1.3))} {level}" for hertz, level in points))
    if rng.random() < 0.5:
        lines.append(f"voicing {rng.integers(50, 170)}")
        lines.append(f"consonants {rng.integers(60, 150)} {rng.integers(60, 150)}")
    if rng.random() < 0.4:
        lines.append("stressAdd " + " ".join(str(step) for step in rng.integers(-20, 120, size=8)))
    if rng.random() < 0.5:
        lines.append(f"intonation {rng.integers(1, 5)}")
    if rng.random() < 0.12:
        lines.append(f"klatt {rng.integers(1, 7)}")
    name = f"{PREFIX}{index:04d}"
    return Voice(name=name, text="\n".join(["language variant", f"name {name}", *lines, ""]))


def draw_talker(rng: np.random.Generator, *, voices: int) -> Talker:
    """Draw someone who speaks with one of the voices."""
    return Talker(
        voice=int(rng.integers(voices)),
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        pitch=rng.uniform(25, 75),
        pitch_range=rng.uniform(12, 92),
        rate=175 * np.exp(rng.uniform(np.log(0.76), np.log(1.32))),
        tract=float(np.exp(rng.uniform(np.log(0.88), np.log(1.14)))),
    )


class DrawnEspeak(Espeak):
    """eSpeak NG with further variants, in a copy of its data folder that consists of links.

    Args:
        voices: the variants to add.
    """

    def __init__(self, voices: Iterable[Voice]) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="elp-")
        self._fill(Path(self._copy.name) / "espeak-ng-data", Path(require_loader().get_data_path()), voices)
        super().__init__()

    def _data_path(self, path: Path) -> Path:
        return super()._data_path(Path(self._copy.name) / path.name)

    @staticmethod
    def _fill(copy: Path, original: Path, voices: Iterable[Voice]) -> None:
        (copy / "voices" / "!v").mkdir(parents=True)
        for file in original.iterdir():
            if file.name != "voices":
                (copy / file.name).symlink_to(file)
        for voice in voices:
            (copy / "voices" / "!v" / voice.name).write_text(voice.text, encoding="utf-8")
