"""Mini VoxCeleb1 (SV): `dev/wav/<id>/<video>/<n>.wav`, `test/wav/...` and the trial list `voxceleb1_test_v2.txt`."""

import itertools
from collections.abc import Sequence

import numpy as np

from upstream_elp.mini.effects import SAMPLE_RATE, Conditions
from upstream_elp.mini.utterances import Plan, Seeds, Sentences, Utterance, make_utterance
from upstream_elp.mini.voices import Speaker

NAME = "VoxCeleb1"
TRIALS = "voxceleb1_test_v2.txt"
SPLITS = ("dev", "test")
#: (speakers, videos, utterances per video) of each split and the number of trials, by size
SIZES = {
    "tiny": (((8, 3, 1), (4, 3, 1)), 24),
    "small": (((300, 2, 2), (280, 4, 1)), 3360),
    "full": (((600, 4, 3), (300, 4, 2)), 20000),
}
#: half of the videos are telephone calls, which pretraining has not heard; otherwise there is nothing left to adapt
CONDITIONS = Conditions(snr=(0.0, 15.0), reverb=0.5, eq=6.0, phone=0.5)
SECONDS = (2.1, 2.8)  # without margins: SUPERB's SV drops training files shorter than 2 s after trimming silence
WORDS = (
    "about", "after", "again", "always", "animal", "answer", "because", "before", "begin", "behind", "believe",
    "better", "between", "brother", "business", "carry", "change", "children", "city", "close", "common", "country",
    "course", "different", "doctor", "during", "early", "earth", "enough", "evening", "every", "example", "family",
    "father", "finally", "follow", "friend", "garden", "general", "govern", "happen", "history", "hundred", "idea",
    "important", "interest", "knowledge", "language", "later", "learn", "letter", "light", "listen", "machine",
    "many", "matter", "member", "middle", "minute", "money", "morning", "mother", "mountain", "music", "nature",
    "never", "night", "nothing", "number", "office", "often", "order", "other", "paper", "party", "people",
    "perhaps", "person", "picture", "place", "power", "president", "problem", "question", "reason", "remember",
    "river", "school", "science", "second", "service", "several", "simple", "sister", "social", "something",
    "special", "station", "story", "strange", "street", "student", "summer", "system", "teacher", "thousand",
    "together", "travel", "under", "value", "village", "visit", "voice", "water", "weather", "welcome", "window",
    "winter", "without", "woman", "wonder", "world", "yellow", "young",
)  # fmt: skip


def plan_voxceleb(size: str, *, seeds: Seeds) -> Plan:
    """Plan the corpus; the utterances of a video share room, microphone, and kind and level of noise."""
    rng, casting = seeds.plan(), seeds.casting()
    sentences = Sentences(lambda: " ".join(WORDS[index] for index in rng.integers(len(WORDS), size=14)))
    shapes, trials = SIZES[size]
    ids = itertools.count(10001)
    utterances: list[Utterance] = []
    channels = itertools.count()
    for split, (people, videos, takes) in zip(SPLITS, shapes, strict=True):
        for _ in range(people):
            speaker, speaker_id = casting.draw(), f"id{next(ids)}"
            for _ in range(videos):
                folder = f"{split}/wav/{speaker_id}/{_video_name(rng)}"
                channel = seeds.channel(next(channels))
                for take in range(takes):
                    path, seed = f"{folder}/{take + 1:05d}.wav", seeds.utterance(len(utterances))
                    text = sentences.draw(split)
                    utterances.append(_utterance(speaker, split, speaker_id, path, text, seed, channel, rng))
    lines = _trials([utterance for utterance in utterances if utterance.split == "test"], trials, rng=rng)
    return Plan(
        name=NAME,
        utterances=tuple(utterances),
        conditions=CONDITIONS,
        tables=lambda samples: {TRIALS: "".join(lines)},
    )


def _utterance(
    speaker: Speaker,
    split: str,
    speaker_id: str,
    path: str,
    text: str,
    seed: tuple[int, ...],
    channel: tuple[int, ...],
    rng: np.random.Generator,
) -> Utterance:
    return make_utterance(
        speaker,
        split=split,
        speaker_id=speaker_id,
        path=path,
        text=text,
        label=speaker_id,
        seed=seed,
        channel_seed=channel,
        rng=rng,
        max_samples=int(rng.uniform(*SECONDS) * SAMPLE_RATE),
    )


def _video_name(rng: np.random.Generator) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(alphabet[index] for index in rng.integers(len(alphabet), size=11))


def _trials(utterances: Sequence[Utterance], count: int, *, rng: np.random.Generator) -> list[str]:
    """Return half targets (same speaker, other video) and half impostors, each pair once: `1|0 path path`."""
    targets, impostors = [], []
    for first, second in itertools.combinations(utterances, 2):
        if first.speaker != second.speaker:
            impostors.append((first, second))
        elif first.path.split("/")[3] != second.path.split("/")[3]:
            targets.append((first, second))
    half = min(count // 2, len(targets), len(impostors))
    lines = []
    for label, pairs in ((1, targets), (0, impostors)):
        for index in rng.choice(len(pairs), size=half, replace=False):
            left, right = (utterance.path.removeprefix("test/wav/") for utterance in pairs[index])
            lines.append(f"{label} {left} {right}\n")
    return [lines[index] for index in rng.permutation(len(lines))]
