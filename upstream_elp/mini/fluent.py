"""Mini Fluent Speech Commands (IC): wavs by speaker and three csv tables with action, object and location.

The slot values are those of the real corpus (6 actions, 14 objects, 4 locations); 12 of its 31 intents are used. Unlike
there, no sentence is in two splits: each has its own combinations of a command and the words around it.
"""

import csv
import io
from collections.abc import Sequence

import numpy as np

from upstream_elp.mini.utterances import Plan, Seeds, Utterance, make_utterance

NAME = "fluent_speech_commands_dataset"
SPLITS = ("train", "valid", "test")
#: (speakers, utterances) of each split, by size
SIZES = {
    "tiny": ((4, 24), (2, 12), (2, 12)),
    "small": ((60, 1200), (30, 300), (400, 1200)),
    "full": ((200, 8000), (60, 1200), (300, 3000)),
}
#: what surrounds a command
CARRIERS = (
    "{}", "{} please", "okay {}", "{} now", "hey {}", "{} thanks", "well {}", "{} quickly", "hello {}", "{} right away",
    "so {}", "and {}",
)  # fmt: skip
#: the split of a combination, by the remainder of the sum of its numbers
SPLIT_OF = ("train", "train", "train", "valid", "test", "test")
#: ways to say each (action, object, location)
INTENTS: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("activate", "lights", "kitchen"): (
        "turn on the lights in the kitchen", "kitchen lights on", "switch the kitchen lights on",
    ),
    ("activate", "lights", "bedroom"): (
        "turn on the lights in the bedroom", "bedroom lights on", "switch the bedroom lights on",
    ),
    ("deactivate", "lights", "kitchen"): (
        "turn off the lights in the kitchen", "kitchen lights off", "switch the kitchen lights off",
    ),
    ("deactivate", "lights", "bedroom"): (
        "turn off the lights in the bedroom", "bedroom lights off", "switch the bedroom lights off",
    ),
    ("activate", "music", "none"): ("play some music", "start the music", "put the music on"),
    ("deactivate", "music", "none"): ("stop the music", "no more music", "put the music on pause"),
    ("increase", "volume", "none"): ("make it louder", "turn the volume up", "I need more volume"),
    ("decrease", "volume", "none"): ("make it quieter", "turn the volume down", "I need less volume"),
    ("increase", "heat", "washroom"): (
        "heat up the washroom", "make the washroom warmer", "the washroom is too cold",
    ),
    ("decrease", "heat", "washroom"): (
        "cool down the washroom", "make the washroom cooler", "the washroom is too hot",
    ),
    ("bring", "newspaper", "none"): ("bring me the newspaper", "get today's newspaper", "I want my newspaper"),
    ("change language", "German", "none"): (
        "change the language to German", "switch to German", "I would like to speak German",
    ),
}  # fmt: skip


def plan_fluent(size: str, *, seeds: Seeds) -> Plan:
    """Plan the corpus; within a split, all intents are equally frequent."""
    rng, casting = seeds.plan(), seeds.casting()
    utterances: list[Utterance] = []
    intents: list[tuple[str, str, str]] = []
    first = 0
    for split, (people, count) in zip(SPLITS, SIZES[size], strict=True):
        speakers = [casting.draw() for _ in range(people)]
        deck: list[int] = []
        for index in range(count):
            deck = deck or list(rng.permutation(len(INTENTS)))
            intent = tuple(INTENTS)[deck.pop()]
            speaker_id = f"speaker{first + index % people:03d}"
            utterances.append(
                make_utterance(
                    speakers[index % people],
                    split=split,
                    speaker_id=speaker_id,
                    path=f"wavs/speakers/{speaker_id}/{_uuid(rng.bytes(16))}.wav",
                    text=_sentence(intent, split, rng),
                    label="/".join(intent),
                    seed=seeds.utterance(len(utterances)),
                    channel_seed=seeds.channel(len(utterances)),
                    rng=rng,
                )
            )
            intents.append(intent)
        first += people
    return Plan(
        name=NAME,
        utterances=tuple(utterances),
        tables=lambda samples: {f"data/{split}_data.csv": _table(utterances, intents, split) for split in SPLITS},
    )


def _sentence(intent: tuple[str, str, str], split: str, rng: np.random.Generator) -> str:
    while True:
        command, carrier = int(rng.integers(len(INTENTS[intent]))), int(rng.integers(len(CARRIERS)))
        if SPLIT_OF[(command + carrier) % len(SPLIT_OF)] == split:
            return CARRIERS[carrier].format(INTENTS[intent][command])


def _uuid(data: bytes) -> str:
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _table(utterances: Sequence[Utterance], intents: Sequence[tuple[str, str, str]], split: str) -> str:
    """Return a csv table with the header of the real corpus, whose first column is an unnamed running number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
    rows = ((utterance, intent) for utterance, intent in zip(utterances, intents, strict=True))
    rows = ((utterance, intent) for utterance, intent in rows if utterance.split == split)
    for number, (utterance, intent) in enumerate(rows):
        writer.writerow([number, utterance.path, utterance.speaker, utterance.text, *intent])
    return stream.getvalue()
