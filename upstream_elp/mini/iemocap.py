"""Mini IEMOCAP (ER): five sessions with different speakers, and four emotions that differ only in prosody."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upstream_elp.mini.effects import SAMPLE_RATE
from upstream_elp.mini.utterances import Plan, Seeds, Utterance, make_utterance
from upstream_elp.mini.voices import Speaker

NAME = "IEMOCAP"
SESSIONS = 5
#: (session, dialogs, utterances per dialog) by size, in the order in which they are drawn. Fold 1 tests on session 1,
#: which is larger in `small`; its second part comes last, so that what is drawn before it does not depend on it
SIZES = {
    "tiny": tuple((session, 2, 5) for session in range(1, SESSIONS + 1)),
    "small": ((1, 48, 20), *((session, 16, 24) for session in range(2, SESSIONS + 1)), (1, 52, 8)),
    "full": tuple((session, 100, 24) for session in range(1, SESSIONS + 1)),
}
SPREAD = 0.4  # speakers differ less in pitch and pace than emotions do, otherwise prosody would not identify emotions
PEOPLE = "speakers.csv"  # not in the real corpus, where two people speak in a session
OTHER_SHARE = 0.1  # utterances with a label outside the four classes, which the task must skip
#: parts of the sentences; a sentence belongs to one session
PARTS = (
    ("I", "they", "you", "we", "my brother", "the neighbours", "her friends", "the children"),
    ("left", "found", "wanted", "forgot", "brought", "opened", "moved", "kept"),
    ("the letter", "the keys", "that old box", "the money", "a blue bag", "those pictures", "the report", "a ticket"),
    ("yesterday", "on the table", "at the station", "after the meeting", "before dinner", "in the other room"),
)


@dataclass(frozen=True)
class Prosody:
    """Changes to the speaker's own pitch and liveliness (in eSpeak units), pace (as a factor) and spectral tilt."""

    pitch: float
    liveliness: float
    pace: float
    tilt: float
    annotators: str
    vad: tuple[float, float, float]  # valence, activation, dominance


EMOTIONS = {
    "neu": Prosody(0, 0, 1.0, 0.0, "Neutral", (2.5, 2.5, 2.5)),
    "hap": Prosody(18, 38, 1.06, 0.0, "Happiness", (4.0, 3.0, 2.5)),
    "exc": Prosody(21, 40, 1.10, 0.05, "Excited", (4.0, 4.0, 3.0)),
    "ang": Prosody(6, 10, 1.22, 0.55, "Anger", (1.5, 4.0, 4.0)),
    "sad": Prosody(-14, -30, 0.82, -0.55, "Sadness", (2.0, 1.5, 2.0)),
}
OTHERS = {
    "fru": Prosody(3, 5, 1.1, 0.2, "Frustration", (2.0, 3.0, 3.0)),
    "sur": Prosody(12, 25, 1.0, 0.1, "Surprise", (3.0, 3.5, 2.5)),
    "xxx": Prosody(0, 5, 1.0, 0.1, "Other", (2.5, 2.5, 2.5)),
}


def plan_iemocap(size: str, *, seeds: Seeds) -> Plan:
    """Plan the corpus; the four classes (`hap` and `exc` count as one) are equally frequent in every session.

    For more variety, another woman and another man speak in every dialog.
    """
    rng, casting = seeds.plan(), seeds.casting(spread=SPREAD)
    utterances: list[Utterance] = []
    labels: list[str] = []
    numbers = {session: itertools.count() for session, *_ in SIZES[size]}
    for session, dialogs, turns in SIZES[size]:
        drawn = iter(_draw_labels(dialogs * turns, rng=rng))
        for _ in range(dialogs):
            name = _dialog_name(session, next(numbers[session]))
            actors = {gender: casting.draw(woman=gender == "F") for gender in "FM"}
            for turn in range(turns):
                gender, label = "FM"[turn % 2], next(drawn)
                path = f"Session{session}/sentences/wav/{name}/{name}_{gender}{turn // 2:03d}.wav"
                seed, channel = seeds.utterance(len(utterances)), seeds.channel(len(utterances))
                utterances.append(_utterance(actors[gender], session, gender, path, label, seed, channel, rng))
                labels.append(label)
    return Plan(
        name=NAME,
        utterances=tuple(utterances),
        tables=lambda samples: {**_evaluations(utterances, labels, samples), PEOPLE: _people(utterances)},
    )


def _sentence(session: int, rng: np.random.Generator) -> str:
    """Draw a sentence of a session: those whose parts' numbers have its remainder."""
    while True:
        chosen = [int(rng.integers(len(part))) for part in PARTS]
        if sum(chosen) % SESSIONS == session % SESSIONS:
            return " ".join(part[index] for part, index in zip(PARTS, chosen, strict=True))


def _utterance(
    actor: Speaker,
    session: int,
    gender: str,
    path: str,
    label: str,
    seed: tuple[int, ...],
    channel: tuple[int, ...],
    rng: np.random.Generator,
) -> Utterance:
    prosody = {**EMOTIONS, **OTHERS}[label]
    return make_utterance(
        actor,
        split=f"Session{session}",
        speaker_id=f"Ses{session:02d}{gender}",
        path=path,
        text=_sentence(session, rng),
        label=label,
        seed=seed,
        channel_seed=channel,
        rng=rng,
        pitch_shift=prosody.pitch,
        range_shift=prosody.liveliness,
        pace=prosody.pace,
        tilt=prosody.tilt,
    )


def _draw_labels(count: int, *, rng: np.random.Generator) -> list[str]:
    others = max(1, int(count * OTHER_SHARE))
    classes = ("neu", "hap", "ang", "sad", "neu", "exc", "ang", "sad")
    labels = [classes[index % len(classes)] for index in range(count - others)]
    labels += [tuple(OTHERS)[index % len(OTHERS)] for index in range(others)]
    return [labels[index] for index in rng.permutation(count)]


def _dialog_name(session: int, dialog: int) -> str:
    """Return `Ses01F_impro01`, `Ses01M_impro01`, `Ses01F_script01_1`, ...; the letter is who wears motion markers."""
    marker, number = "FM"[dialog % 2], dialog // 4 + 1
    scene = f"impro{number:02d}" if dialog % 4 < 2 else f"script{number:02d}_1"
    return f"Ses{session:02d}{marker}_{scene}"


def _people(utterances: Sequence[Utterance]) -> str:
    """Return who speaks, since there are more than two people in a session."""
    rows = (f"{Path(utterance.path).stem},{utterance.voice.name}\n" for utterance in utterances)
    return "".join(["utterance,speaker\n", *rows])


def _evaluations(utterances: Sequence[Utterance], labels: Sequence[str], samples: Sequence[int]) -> dict[str, str]:
    """Return the label files: a header, then for each turn a summary line, the annotators' votes and an empty line."""
    files: dict[str, list[str]] = {}
    clock: dict[str, float] = {}
    for utterance, label, count in zip(utterances, labels, samples, strict=True):
        *_, dialog, file = utterance.path.split("/")
        path = f"{utterance.split}/dialog/EmoEvaluation/{dialog}.txt"
        lines = files.setdefault(path, ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"])
        start = clock.get(dialog, 0.0) + 0.5
        end = clock[dialog] = start + count / SAMPLE_RATE
        prosody = {**EMOTIONS, **OTHERS}[label]
        valence, activation, dominance = prosody.vad
        lines.append(
            f"[{start:.4f} - {end:.4f}]\t{file.removesuffix('.wav')}\t{label}\t"
            f"[{valence:.4f}, {activation:.4f}, {dominance:.4f}]\n"
            f"C-E1:\t{prosody.annotators};\t()\nC-E2:\t{prosody.annotators};\t()\n"
            f"A-E1:\tval {round(valence)}; act {round(activation)}; dom  {round(dominance)};\t()\n\n"
        )
    return {path: "".join(lines) for path, lines in files.items()}
