"""Mini LibriSpeech (ASR): short random word sequences; `<split>/<speaker>/<chapter>/` with flac and `trans.txt`."""

from collections.abc import Sequence

import numpy as np

from upstream_elp.mini.utterances import Plan, Seeds, Utterance, make_utterance
from upstream_elp.mini.voices import cast_splits

NAME = "LibriSpeech"
WORDS = (
    "APPLE", "BRIDGE", "CANDLE", "DOCTOR", "EVENING", "FLOWER", "GARDEN", "HOUSE", "ISLAND", "JOURNEY", "KITCHEN",
    "LETTER", "MORNING", "NUMBER", "OCEAN", "PAPER", "QUEEN", "RIVER", "SILVER", "TABLE", "UNDER", "VALLEY", "WINTER",
    "YELLOW", "BLUE", "GREEN", "LITTLE", "OLD",
)  # fmt: skip
SPLITS = ("train-clean-100", "dev-clean", "test-clean")
#: (speakers, utterances) of each split, by size
SIZES = {
    "tiny": ((4, 24), (2, 8), (2, 8)),
    "small": ((40, 800), (10, 80), (14, 120)),
    "medium": ((50, 4000), (10, 300), (19, 400)),
}
CHAPTER_LENGTH = 10


def plan_librispeech(size: str, voices: Sequence[tuple[str, str]], *, seeds: Seeds) -> Plan:
    """Plan the corpus; see :class:`Plan`."""
    rng = seeds.plan()
    counts = dict(zip(SPLITS, SIZES[size], strict=True))
    cast = cast_splits({split: speakers for split, (speakers, _) in counts.items()}, voices, rng=rng)
    utterances: list[Utterance] = []
    first_id = 1001
    for split, speakers in cast.items():
        for index in range(counts[split][1]):
            who, number = index % len(speakers), index // len(speakers)
            speaker_id, chapter = first_id + who, 10 * (first_id + who) + number // CHAPTER_LENGTH
            name = f"{speaker_id}-{chapter}-{number % CHAPTER_LENGTH:04d}"
            utterances.append(
                make_utterance(
                    speakers[who],
                    split=split,
                    speaker_id=str(speaker_id),
                    path=f"{split}/{speaker_id}/{chapter}/{name}.flac",
                    text=" ".join(_words(rng)).lower(),
                    seed=seeds.utterance(len(utterances)),
                    channel_seed=seeds.channel(len(utterances)),
                    rng=rng,
                )
            )
        first_id += len(speakers)
    return Plan(
        name=NAME,
        utterances=tuple(utterances),
        tables=lambda samples: _transcripts(utterances),
    )


def _words(rng: np.random.Generator) -> list[str]:
    return [WORDS[index] for index in rng.choice(len(WORDS), size=rng.integers(2, 6), replace=False)]


def _transcripts(utterances: Sequence[Utterance]) -> dict[str, str]:
    lines: dict[str, list[str]] = {}
    for utterance in utterances:
        folder, _, file = utterance.path.rpartition("/")
        name = file.removesuffix(".flac")
        speaker, chapter, _ = name.split("-")
        lines.setdefault(f"{folder}/{speaker}-{chapter}.trans.txt", []).append(f"{name} {utterance.text.upper()}\n")
    return {path: "".join(sorted(content)) for path, content in lines.items()}
