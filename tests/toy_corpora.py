"""Tiny corpora in the real corpora's layouts: tones and noise, a few files each, written in a fraction of a second."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
SENTENCES = ("HELLO WORLD", "SEE THE SEA", "A CAT", "IT'S TOO LATE", "GO ON", "YES")
EMOTIONS = ("neu", "hap", "ang", "sad", "exc")
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "_silence_")
INTENTS = (
    ("change language", "none", "none"),
    ("activate", "lights", "kitchen"),
    ("deactivate", "music", "none"),
    ("activate", "lamp", "bedroom"),
)


def tone(*, seconds: float = 0.5, pitch: float = 220.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone with noise, float32 in [-1, 1], ``(samples,)``."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * noise).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Write wav or flac, by the ending; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def librispeech(data: Path, *, counts: Mapping[str, int] | None = None, sentences: Sequence[str] = SENTENCES) -> Path:
    """``<data>/LibriSpeech`` with ``counts[part]`` utterances per part, spread over speakers of three utterances."""
    root = data / "LibriSpeech"
    counts = counts or {"train-clean-100": 7, "dev-clean": 3, "test-clean": 3}
    for part_number, (part, count) in enumerate(counts.items()):
        for number in range(count):
            speaker, chapter = str(100 * (part_number + 1) + number // 3), "7"
            folder = root / part / speaker / chapter
            name = f"{speaker}-{chapter}-{number:04d}"
            write_wav(folder / f"{name}.flac", tone(seconds=0.4 + 0.05 * number, pitch=200 + 40 * number, seed=number))
            with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
                file.write(f"{name} {sentences[number % len(sentences)]}\n")
    return root


def librilight(data: Path) -> Path:
    """``<data>/LibriSpeech/librispeech_finetuning`` with two utterances in each fold and in ``9h``."""
    root = data / "LibriSpeech"
    for number, part in enumerate((*(f"1h/{fold}" for fold in range(6)), "9h")):
        for kind in ("clean", "other"):
            name = f"{700 + 10 * number + (kind == 'other')}-7"
            folder = root / "librispeech_finetuning" / part / kind / name.replace("-", "/")
            write_wav(folder / f"{name}-0000.flac", tone(seconds=0.4 + 0.02 * number, seed=number))
            (folder / f"{name}.trans.txt").write_text(f"{name}-0000 {SENTENCES[number % len(SENTENCES)]}\n")
    return root


def iemocap(data: Path, *, per_session: int = 6) -> Path:
    """``<data>/IEMOCAP`` with five sessions; one extra utterance per session has a label that is not used."""
    root = data / "IEMOCAP"
    for session in range(1, 6):
        dialog = f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for number in range(per_session + 1):
            label = EMOTIONS[(number + session) % len(EMOTIONS)] if number < per_session else "fru"
            name = f"{dialog}_F{number:03d}"
            wav = tone(seconds=0.3 + 0.02 * number, pitch=150 + 60 * EMOTIONS.index(label) if label != "fru" else 90)
            write_wav(root / f"Session{session}" / "sentences" / "wav" / dialog / f"{name}.wav", wav)
            lines += [
                f"[{number}.0000 - {number}.9000]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]",
                "C-E1:\tNeutral;\t()",
                "",
            ]
        table = root / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        table.parent.mkdir(parents=True)
        table.write_text("\n".join(lines))
    return root


def fluent_speech_commands(data: Path, *, counts: Mapping[str, int] | None = None) -> Path:
    """``<data>/fluent_speech_commands_dataset`` with every intent in training."""
    root = data / "fluent_speech_commands_dataset"
    (root / "data").mkdir(parents=True)
    for split, count in (counts or {"train": 8, "valid": 4, "test": 4}).items():
        lines = [",path,speakerId,transcription,action,object,location"]
        for number in range(count):
            path = f"wavs/speakers/{split}spk/{split}-{number:03d}.wav"
            write_wav(root / path, tone(seconds=0.3 + 0.02 * number, pitch=180 + 70 * (number % len(INTENTS))))
            lines.append(f'{number},{path},{split}spk,"Well, do it",{",".join(INTENTS[number % len(INTENTS)])}')
        (root / "data" / f"{split}_data.csv").write_text("\n".join(lines) + "\n")
    return root


def voxceleb1(data: Path, *, train: int = 4, test: int = 2, videos: int = 2, seconds: float = 2.5) -> Path:
    """``<data>/VoxCeleb1`` with two utterances per video and all trials between the first test utterances."""
    root = data / "VoxCeleb1"
    wavs: dict[str, list[str]] = {"dev": [], "test": []}
    for speaker in range(train + test):
        part = "dev" if speaker < train else "test"
        for video, number in itertools.product(range(videos), range(1, 3)):
            path = f"id1{speaker:04d}/video{video}/{number:05d}.wav"
            write_wav(root / part / "wav" / path, tone(seconds=seconds, pitch=120 + 50 * speaker, seed=number + video))
            wavs[part].append(path)
    pairs = itertools.combinations(wavs["test"], 2)
    lines = [f"{int(first.split('/')[0] == second.split('/')[0])} {first} {second}" for first, second in pairs]
    (root / "voxceleb1_test_v2.txt").write_text("\n".join(lines) + "\n")
    return root


def _speakers(low: int, high: int, count: int) -> list[str]:
    """Speakers that the rule in Speech Commands' README puts between two percentages."""

    def share(speaker: str) -> float:
        return int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)

    names = (f"{number:08x}" for number in itertools.count())
    return list(itertools.islice((name for name in names if low <= share(name) < high), count))


def speech_commands(data: Path, *, speakers: tuple[int, int, int] = (2, 1, 1)) -> Path:
    """``<data>/speech_commands_v0.01`` with ``speakers`` of training, validation and testing, and the test set."""
    root, test = data / "speech_commands_v0.01", data / "speech_commands_test_set_v0.01"
    parts = {"validation": (0, 10, speakers[1]), "testing": (10, 20, speakers[2]), "train": (20, 101, speakers[0])}
    for part, limits in parts.items():
        files = [f"{word}/{speaker}_nohash_0.wav" for speaker in _speakers(*limits) for word in KEYWORDS[:-1]]
        for number, file in enumerate(files):
            pitch = 150 + 60 * KEYWORDS.index(file.split("/")[0])
            write_wav(root / file, tone(seconds=0.3 + 0.01 * number, pitch=pitch, seed=number))
        if part != "train":
            (root / f"{part}_list.txt").write_text("".join(f"{file}\n" for file in files))
    for number in range(2):
        noise = 0.1 * np.random.default_rng(number).standard_normal(RATE + 4000 * number + 1000)
        write_wav(root / "_background_noise_" / f"noise{number}.wav", noise.astype(np.float32))
    for number, word in enumerate(KEYWORDS):
        label = "_unknown_" if word == "bed" else word
        wav = tone(seconds=0.4, pitch=150 + 60 * number, seed=number)
        write_wav(test / label / f"test{number}_nohash_0.wav", 0.1 * wav if word == "_silence_" else wav)
    return root


def write_all(data: Path) -> Path:
    """All corpora below ``data``, as ``ELP_DATA`` expects them."""
    for make in (librispeech, iemocap, fluent_speech_commands, voxceleb1, speech_commands):
        make(data)
    return data
