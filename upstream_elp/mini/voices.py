"""Synthetic speakers: an eSpeak NG variant with its own accent and habits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upstream_elp.base.errors import ElpError

#: English accents that load by name (`en-gb` does not).
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip

# Omitted: variants with `breath` noise, which differ from run to run (Alicia, Demonic, Reed, Storm, caleb, f2, f3, f5,
# sandro, victor, whisper, whisperf), robots (UniRobot, anikaRobot, croak, robosoft*), a child (zac), a speed (fast).
FEMALE = (
    "Andrea", "Annie", "anika", "aunty", "belinda", "f1", "f4", "grandma", "linda", "shelby", "steph", "steph2",
    "steph3",
)  # fmt: skip
MALE = (
    "Alex", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco",
    "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "RicishayMax", "RicishayMax2", "RicishayMax3", "Tweaky", "adam",
    "announcer", "antonio", "benjamin", "boris", "david", "ed", "edward", "edward2", "grandpa", "gustave", "ian",
    "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6",
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo",
    "paul", "pedro", "quincy", "rob", "robert", "travis",
)  # fmt: skip

MIN_VOICES = 10  # IEMOCAP has five sessions, each with another woman and another man
MAX_VOICES = len(FEMALE) + len(MALE)


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A speaker, identified by `variant`, which speakers in different splits of a corpus never share."""

    variant: str
    gender: str
    accent: str
    pitch: int
    pitch_range: int
    rate: int

    @property
    def voice(self) -> str:
        return f"{self.accent}+{self.variant}"


def list_voices(count: int | None = None) -> list[tuple[str, str]]:
    """Return `count` pairs of variant and gender (`F`, `M`), by default all; genders alternate as long as possible."""
    count = MAX_VOICES if count is None else count
    if not MIN_VOICES <= count <= MAX_VOICES:
        raise ElpError(f"--voices must be between {MIN_VOICES} and {MAX_VOICES}, but is {count}")
    pairs: list[tuple[str, str]] = []
    for index, male in enumerate(MALE):
        if index < len(FEMALE):
            pairs.append((FEMALE[index], "F"))
        pairs.append((male, "M"))
    return pairs[:count]


def make_speaker(variant: str, gender: str, *, rng: np.random.Generator, spread: float = 1.0) -> Speaker:
    """Draw an accent for a variant and, within `spread` times the usual range, a pitch, a liveliness and a pace."""
    return Speaker(
        variant=variant,
        gender=gender,
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        pitch=round(50 + spread * rng.uniform(-12, 12)),
        pitch_range=round(50 + spread * rng.uniform(-10, 10)),
        rate=round(175 * (1 + spread * rng.uniform(-0.1, 0.1))),
    )


def cast_splits(
    wanted: dict[str, int], voices: Sequence[tuple[str, str]], *, rng: np.random.Generator
) -> dict[str, list[Speaker]]:
    """Draw the speakers of each split, without shared variants; fewer (but at least 2) if there are few voices."""
    total = sum(wanted.values())
    share = min(1.0, len(voices) / total)
    order = [voices[index] for index in rng.permutation(len(voices))]
    cast: dict[str, list[Speaker]] = {}
    for split, count in wanted.items():
        chosen, order = order[: max(2, int(count * share))], order[max(2, int(count * share)) :]
        cast[split] = [make_speaker(variant, gender, rng=rng) for variant, gender in chosen]
    return cast
