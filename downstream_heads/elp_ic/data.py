"""Fluent Speech Commands: three slots per utterance, from the corpus's own csv files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from downstream_heads.common.lengths import Rows
from downstream_heads.common.loaders import AudioReader
from upstream_elp.base.problems import AUDIO_KINDS, HARMLESS, refuse
from upstream_elp.corpora.fluent import SLOTS, Command, read, read_table, slot_values, table_name

__all__ = ["SLOTS", "TABLES", "Command", "Commands", "read_commands", "slot_values", "split_rows"]

TABLES = {"train": "train", "dev": "valid", "test": "test"}
"""The corpus' name for each of our splits."""


def read_commands(root: Path, split: str) -> list[Command]:
    """Return the rows of one split's csv file, in order.

    Raises:
        ElpError: the file is missing or empty, lacks a column, or has a row with a missing value.
    """
    name = table_name(TABLES[split])
    rows, problems = read_table(root / name, name=name)
    refuse(problems, root)
    return rows


def split_rows(root: Path, split: str, *, skip_missing: bool = False) -> list[Command]:
    """Return the usable rows of one split.

    Args:
        root: corpus root.
        split: ``train``, ``dev`` or ``test``.
        skip_missing: accept missing audio here, and leave it to the reader of the items.

    Raises:
        ElpError: audio is missing, or a slot has a value that no training utterance has; names all problems.
    """
    found = read(root, [TABLES[split]])
    found.refuse(root, passed=HARMLESS | AUDIO_KINDS if skip_missing else HARMLESS)
    return found.of[TABLES[split]]


class Commands(Rows):
    """Utterances of one split; an item is ``(wav, class indices (slots,), name)``.

    Args:
        root: corpus root.
        rows: the utterances: their ``path``, ``name`` and ``slots``.
        values: the values of each slot, in class order.
        audio: reads the files.
    """

    def __init__(self, root: Path, rows: Sequence[Any], *, values: Sequence[Sequence[str]], audio: AudioReader) -> None:
        super().__init__(root, rows)
        self.audio = audio
        self.index = [{value: index for index, value in enumerate(column)} for column in values]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        row = self.rows[index]
        label = [known[value] for known, value in zip(self.index, row.slots, strict=True)]
        return self.audio(self.root / row.path).numpy(), np.asarray(label, dtype=np.int64), row.name
