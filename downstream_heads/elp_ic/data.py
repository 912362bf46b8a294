"""Fluent Speech Commands: three slots per utterance, from the corpus's own csv files."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from downstream_heads.common.files import missing_files
from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.options import problem_list
from upstream_elp.errors import ElpError

SLOTS = ("action", "object", "location")
FILES = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}


@dataclass(frozen=True)
class Command:
    """One utterance: its path below the corpus root and the values of the three slots."""

    path: str
    slots: tuple[str, str, str]

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return Path(self.path).stem


def read_commands(root: Path, split: str) -> list[Command]:
    """The rows of one split's csv, in its order.

    Raises:
        ElpError: the file is missing or empty, lacks a column, or has a row without path or label.
    """
    path = root / "data" / FILES[split]
    if not path.is_file():
        raise ElpError(f"{path} does not exist; the {split} part of Fluent Speech Commands is listed there")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        absent = [column for column in ("path", *SLOTS) if column not in header]
        if absent:
            raise ElpError(f"{path} has no column {absent[0]}; it needs path, {', '.join(SLOTS)}")
        rows = list(reader)
    problems = [
        f"line {number} has no {column}"
        for number, row in enumerate(rows, start=2)
        for column in ("path", *SLOTS)
        if not row[column]
    ]
    if problems or not rows:
        raise ElpError(f"{path} is not usable: {problem_list(problems) if problems else 'it holds no utterance'}")
    return [Command(row["path"], (row["action"], row["object"], row["location"])) for row in rows]


def slot_values(commands: Sequence[Command], *, order: str) -> list[list[str]]:
    """The values of each slot; a value's place is its class index.

    Args:
        commands: the training utterances.
        order: ``appearance`` numbers as S3PRL does (downstream/fluent_commands/expert.py:53), so that its checkpoints
            fit; ``sorted`` does not depend on the order of the csv's rows.
    """
    columns = [list(dict.fromkeys(command.slots[slot] for command in commands)) for slot in range(len(SLOTS))]
    return [sorted(column) for column in columns] if order == "sorted" else columns


class Commands(Dataset):
    """Utterances of one split; an item is ``(wav, class indices (3,), name)``.

    Raises:
        ElpError: audio is missing, or a slot has a value that no training utterance has; all problems are told.
    """

    def __init__(self, root: Path, split: str, *, values: Sequence[Sequence[str]], audio: AudioReader) -> None:
        self.root, self.audio = root, audio
        self.rows = read_commands(root, split)
        self.index = [{value: index for index, value in enumerate(column)} for column in values]
        problems = [f"{path} is missing" for path in missing_files(root / row.path for row in self.rows)]
        problems += [
            f"{row.name} has the {slot} {value!r}, which no training utterance has"
            for row in self.rows
            for slot, value, known in zip(SLOTS, row.slots, self.index, strict=True)
            if value not in known
        ]
        if problems:
            raise ElpError(f"{root / 'data' / FILES[split]} is not usable: {problem_list(problems)}")

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[Path]:
        """The audio files of the split."""
        return [self.root / row.path for row in self.rows]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        row = self.rows[index]
        label = [known[value] for known, value in zip(self.index, row.slots, strict=True)]
        return self.audio(self.root / row.path).numpy(), np.asarray(label, dtype=np.int64), row.name
