"""Mini LibriSpeech (ASR): short random word sequences; `<split>/<speaker>/<chapter>/` with flac and `trans.txt`."""

from collections.abc import Sequence

import numpy as np

from upstream_elp.mini.utterances import Plan, Seeds, Sentences, Utterance, make_utterance

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
    "small": ((60, 1200), (30, 240), (540, 540)),
    "full": ((200, 8000), (60, 900), (300, 2400)),
}
CHAPTER_LENGTH = 10


def plan_librispeech(size: str, *, seeds: Seeds) -> Plan:
    """Plan the corpus; see :class:`Plan`."""
    rng, casting = seeds.plan(), seeds.casting()
    sentences = Sentences(lambda: " ".join(_words(rng)).lower())
    utterances: list[Utterance] = []
    first_id = 1001
    for split, (people, count) in zip(SPLITS, SIZES[size], strict=True):
        speakers = [casting.draw() for _ in range(people)]
        for index in range(count):
            who, number = index % len(speakers), index // len(speakers)
            speaker_id, chapter = first_id + who, 10 * (first_id + who) + number // CHAPTER_LENGTH
            name = f"{speaker_id}-{chapter}-{number % CHAPTER_LENGTH:04d}"
            utterances.append(
                make_utterance(
                    speakers[who],
                    split=split,
                    speaker_id=str(speaker_id),
                    path=f"{split}/{speaker_id}/{chapter}/{name}.flac",
                    text=sentences.draw(split),
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
