"""Synthetic speakers: drawn eSpeak NG variants (formants, pitch and timbre) with an accent and habits.

eSpeak's own variants are too few for test sets with small errors, and some differ from run to run. Drawn ones cannot
run out: another seed gives other speakers.
"""

from dataclasses import dataclass

import numpy as np

#: English accents that load by name (`en-gb` does not).
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip
WOMEN = 0.45  # share of the speakers of unspecified gender


@dataclass(frozen=True, kw_only=True)
class Voice:
    """An eSpeak NG variant: its name, and the text of its file."""

    name: str
    text: str

    @property
    def sound(self) -> str:
        """The definition without the name; two voices sound alike if these are equal."""
        return "\n".join(line for line in self.text.splitlines() if not line.startswith("name "))


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Someone with a voice, an accent and habits; `pitch`, `pitch_range` and `rate` are eSpeak's units.

    `tract` is the factor by which resampling shortens the vocal tract.
    """

    voice: Voice
    accent: str
    pitch: float
    pitch_range: float
    rate: float
    tract: float


def draw_voice(name: str, *, rng: np.random.Generator, woman: bool | None = None) -> Voice:
    """Draw a voice, by default of either gender. The numbers of a variant are per cent or Hz."""
    drawn = rng.random() < WOMEN
    woman = drawn if woman is None else woman
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
    return Voice(name=name, text="\n".join(["language variant", f"name {name}", *lines, ""]))


class Casting:
    """A source of speakers who depend only on a seed, a corpus and their number.

    Args:
        seed: of the speakers.
        corpus: number of the corpus, so that two corpora never share a speaker.
        spread: how much habits differ between speakers, as a factor.
    """

    def __init__(self, seed: int, corpus: int, *, spread: float = 1.0) -> None:
        self.base, self.corpus, self.spread, self.count = (seed, corpus, 3), corpus, spread, 0

    def draw(self, *, woman: bool | None = None) -> Speaker:
        """Return another speaker."""
        # numpy ignores zeros at the end of a seed: without the one, speaker 0 would have the draws of a shorter seed
        rng = np.random.default_rng((*self.base, self.count, 1))
        voice = draw_voice(f"mini{self.corpus}-{self.count:04d}", rng=rng, woman=woman)
        self.count += 1
        return Speaker(
            voice=voice,
            accent=ACCENTS[rng.integers(len(ACCENTS))],
            pitch=round(50 + self.spread * rng.uniform(-12, 12)),
            pitch_range=round(50 + self.spread * rng.uniform(-10, 10)),
            rate=round(175 * (1 + self.spread * rng.uniform(-0.1, 0.1))),
            tract=float(np.exp(self.spread * rng.uniform(-0.06, 0.06))),
        )
