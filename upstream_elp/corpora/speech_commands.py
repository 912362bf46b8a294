"""Speech Commands v0.01: the utterances of each split with their classes, and the problems of the corpus."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.base import texts
from upstream_elp.base.errors import counted
from upstream_elp.base.folders import look, subfolders
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.description import Corpus
from upstream_elp.corpora.reading import Reading

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
CLASSES = (*WORDS, UNKNOWN, SILENCE)
"""In the order of S3PRL's class indices (downstream/speech_commands/dataset.py)."""
NOISE = "_background_noise_"
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
"""The lists in the training archive; the files in neither of them are for training."""
TEST_FOLDER = "speech_commands_test_set_v0.01"
CORPUS = Corpus(
    name="Speech Commands",
    folder="speech_commands_v0.01",
    source="https://arxiv.org/abs/1804.03209 (speech_commands_v0.01.tar.gz and "
    "speech_commands_test_set_v0.01.tar.gz at http://download.tensorflow.org/data)",
    layout="<word>/<speaker>_nohash_<n>.wav, _background_noise_/<name>.wav, validation_list.txt and "
    "testing_list.txt; next to it the test set speech_commands_test_set_v0.01/<class>/<name>.wav",
    signs=("_background_noise_", "validation_list.txt"),
    holds=("_background_noise_", "validation_list.txt"),
    keys=("root", "speech_commands_root"),
)


@dataclass(frozen=True)
class Row:
    """One file: its path, relative to the corpus root, and its class."""

    path: str
    label: str

    @property
    def name(self) -> str:
        """``<folder>-<file>``, as in S3PRL: a speaker's files have the same name in every word's folder."""
        return "-".join(Path(self.path).parts[-2:])

    @property
    def speaker(self) -> str:
        """The speaker; empty for noise."""
        speaker, mark, _ = Path(self.path).name.partition("_nohash_")
        return speaker if mark else ""


@dataclass
class Splits(Reading[Row]):
    """The contents of the corpus.

    Attributes:
        of: the files of each requested split, including missing ones.
    """

    of: dict[str, list[Row]] = field(default_factory=dict)


def read_corpus(root: Path, test_root: Path | None, splits: Sequence[str]) -> Splits:
    """Read the splits of both archives.

    As in S3PRL, the background noise is the silence of training and dev; the test set has its own files.

    Args:
        root: the training archive.
        test_root: the test set; None for its usual folder next to the training archive.
        splits: some of ``train``, ``dev`` and ``test``.
    """
    found = Splits()
    if {"train", "dev"} & set(splits):
        _read_training(found, root, splits)
    if "test" in splits:
        _read_test(found, root, test_root or root.parent / TEST_FOLDER)
    for split, rows in found.of.items():
        # drawing clips needs every class
        needed = CLASSES if split != "test" else ()
        absent = [label for label in needed if label not in {row.label for row in rows}]
        if absent or not rows:
            what = f"utterance of {', '.join(absent)}" if absent else "utterance"
            found.problems.append(Problem("classes", split, f"{split} has no {what}; unpack the corpus again.", False))
    found.rows = [row for rows in found.of.values() for row in rows]
    return found


def _read_training(found: Splits, root: Path, splits: Sequence[str]) -> None:
    tree = look(root, root=root, suffix=".wav")
    found.problems += checks.closed_problems(tree.closed)
    noise = [Row(file, SILENCE) for file in tree.files if file.startswith(f"{NOISE}/")]
    there = [file for file in tree.files if file.count("/") == 1 and not file.startswith(f"{NOISE}/")]
    lists = {split: _read_list(found, root / name) for split, name in LISTS.items()}
    apart = set(lists["dev"]) | set(lists["test"])
    members = {"train": [file for file in there if file not in apart], "dev": lists["dev"]}
    for file in sorted(set(lists["dev"]) & set(lists["test"])):
        sentence = f"{file} appears in {LISTS['dev']} and in {LISTS['test']}; remove it from one of them."
        found.problems.append(Problem("overlap", file, sentence, False))
    if "dev" in splits:
        gone = sorted(set(lists["dev"]) - set(there))
        found.gone |= set(gone)
        cause = f"{AUDIO} of {LISTS['dev']} are missing"
        absent = {
            file: Problem("missing-audio", file, f"{file} is missing, but {LISTS['dev']} lists it.", cause=cause)
            for file in gone
        }
        found.problems += absent_problems(root, absent)
    _compare_speakers(found, members)
    for split in ("train", "dev"):
        if split in splits:
            found.of[split] = [Row(file, _label(file)) for file in members[split]] + noise


def _compare_speakers(found: Splits, members: dict[str, list[str]]) -> None:
    speakers = {split: {Row(file, "").speaker for file in files} - {""} for split, files in members.items()}
    for _, _, shared in checks.shared_speakers(speakers):
        share = counted(len(shared), "speaker")
        sentence = f"{LISTS['dev']} shares {share} with training (such as {shared[0]}); use the list from the archive."
        found.problems.append(Problem("speakers", LISTS["dev"], sentence, False))


def _read_list(found: Splits, path: Path) -> list[str]:
    """Return the files in a list, each once."""
    if not path.is_file():
        found.problems.append(Problem("layout", path.name, f"{path.name} is missing; it is in the archive.", False))
        return []
    content, fault = texts.read(path)
    if fault:
        found.problems.append(Problem("encoding", path.name, f"{path.name} {fault}.", False))
    counts = Counter(line.strip() for line in texts.lines(content) if line.strip())
    for file in (file for file, count in counts.items() if count > 1):
        found.problems.append(Problem("duplicate", file, f"{file} appears more than once in {path.name}.", False))
    return list(counts)


def _read_test(found: Splits, root: Path, test_root: Path) -> None:
    """Read the test set, which has one folder per class."""
    # relative to the corpus root, wherever the test set is
    place = Path(os.path.relpath(test_root, root)).as_posix()
    if not test_root.is_dir():
        sentence = f"{place} is missing; unpack {TEST_FOLDER}.tar.gz there, or set datarc.test_root."
        found.problems.append(Problem("layout", place, sentence, False))
        return
    tree = look(test_root, root=test_root, suffix=".wav")
    closed = {f"{place}/{folder}": why for folder, why in tree.closed.items()}
    found.problems += checks.closed_problems(closed)
    if strange := sorted(set(subfolders(test_root)) - set(CLASSES)):
        sentence = (
            f"{place} contains the folder {strange[0]}, which is not a class; the classes are {', '.join(CLASSES)}."
        )
        found.problems.append(Problem("label", f"{place}/{strange[0]}", sentence, False))
    rows = [Row(f"{place}/{file}", file.split("/")[0]) for file in tree.files if file.count("/") == 1]
    found.of["test"] = [row for row in rows if row.label in CLASSES]


def _label(file: str) -> str:
    word = file.split("/")[0]
    return word if word in WORDS else UNKNOWN
