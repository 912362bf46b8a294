"""Fluent Speech Commands: three slots per utterance, from the corpus's own csv files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.options import problem_list
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import locate
from upstream_elp.corpora.fluent import SLOTS, parse_table

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
    table = parse_table(path, columns=("path", *SLOTS))
    if table.absent:
        raise ElpError(f"{path} has no column {table.absent[0]}; it needs path, {', '.join(SLOTS)}")
    problems = [table.fault] if table.fault else []
    problems += [f"line {line} has no {column}" for line, columns in table.gaps for column in columns]
    if problems or not table.rows:
        raise ElpError(f"{path} is not usable: {problem_list(problems) if problems else 'it holds no utterance'}")
    return [Command(row["path"], (row["action"], row["object"], row["location"])) for row in table.rows]


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

    Args:
        root: corpus root.
        split: ``train``, ``dev`` or ``test``.
        values: the values of each slot, in the order of their classes.
        audio: reads the files.
        skip_missing: leave missing audio to whoever reads the items.

    Raises:
        ElpError: audio is missing, or a slot has a value that no training utterance has; all problems are told.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        values: Sequence[Sequence[str]],
        audio: AudioReader,
        skip_missing: bool = False,
    ) -> None:
        self.root, self.audio = root, audio
        rows = read_commands(root, split)
        found = locate(root, (row.path for row in rows))
        self.rows = [replace(row, path=found[row.path] or row.path) for row in rows]
        self.index = [{value: index for index, value in enumerate(column)} for column in values]
        missing = [] if skip_missing else [path for path, there in found.items() if there is None]
        problems = [f"{root / path} is missing" for path in missing]
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
