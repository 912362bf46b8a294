"""The utterances of a split and their lengths, from the corpus or from S3PRL's length tables."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downstream_heads.common.size import limited
from downstream_heads.elp_asr.characters import SPECIAL, WORD_END, Characters
from upstream_elp.audio.formats import SAMPLE_RATE
from upstream_elp.audio.headers import Header, Options, index_path, read_headers
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import Problem
from upstream_elp.base.texts import read_text
from upstream_elp.corpora import checks
from upstream_elp.corpora.chapters import Utterance, read_tables, rows_of, table_problems
from upstream_elp.corpora.librispeech import read_part
from upstream_elp.corpora.reading import Reading

COLUMNS = ("file_path", "length", "rate", "channels")


@dataclass(frozen=True)
class Entry:
    """One utterance.

    Attributes:
        path: path below the corpus root.
        length: length in samples of the file.
        rate: sample rate in Hz; None if the table does not state it.
        channels: number of channels; None if the table does not state it.
    """

    path: str
    length: int
    rate: int | None = None
    channels: int | None = None

    @property
    def header(self) -> Header:
        """The file's header, as far as the table states it."""
        return Header(self.length, self.rate or SAMPLE_RATE, self.channels or 1)


@dataclass
class Split(Reading[Utterance]):
    """The utterances of one split.

    Attributes:
        entries: the rows of the given length tables; None if the corpus itself was read.
    """

    entries: list[Entry] | None = None

    def add(self, found: Reading[Utterance]) -> None:
        """Add one part of the corpus."""
        self.rows += found.rows
        self.gone |= found.gone
        self.problems += found.problems
        self.remarks += found.remarks

    def limit(self, root: Path, options: Mapping[str, Any]) -> None:
        """Keep the part of the training set that the options ask for, see :func:`limited`."""
        self.rows = limited(root, self.rows, options)
        kept = {row.path for row in self.rows}
        self.gone &= kept
        if self.entries is not None:
            self.entries = [entry for entry in self.entries if entry.path in kept]


def read_split(
    root: Path, split: str, folders: Sequence[str], *, characters: Characters, bucket_file: str | Path | None = None
) -> Split:
    """Find the utterances of a split and their transcripts.

    Args:
        root: corpus root.
        split: name of the split, for messages.
        folders: the parts of the corpus that it consists of.
        characters: the dictionary.
        bucket_file: folder of S3PRL's length tables ``<part>.csv``, with the columns file_path and length, which may
            select some of the utterances; None takes all.
    """
    letters = frozenset(characters.index) - {WORD_END, *SPECIAL} | {" "}
    found = Split(entries=[] if bucket_file else None)
    for folder in folders:
        if not bucket_file:
            found.add(read_part(root, folder, characters=letters, split=split))
            continue
        try:
            entries = read_length_table(Path(bucket_file) / f"{folder}.csv")
        except ElpError as error:
            found.problems.append(Problem("table", folder, f"{error}.", False))
        else:
            found.entries += entries
            found.add(_named(root, [entry.path for entry in entries], letters))
    return found


def _named(root: Path, files: Iterable[str], letters: frozenset[str]) -> Reading[Utterance]:
    """Return the utterances that a length table names."""
    found: Reading[Utterance] = Reading()
    files, closed = list(files), {}
    tables = read_tables(root, sorted({file.rpartition("/")[0] for file in files}), closed=closed)
    found.problems += checks.closed_problems(closed) + table_problems(tables.values())
    found.rows = list(rows_of(files, tables))
    for row in found.rows:
        where = tables[row.path.rpartition("/")[0]].path
        found.problems += checks.transcript_problems(row.path, row.text, where=where, characters=letters)
    return found


def read_length_table(path: Path) -> list[Entry]:
    """Read one of S3PRL's length tables.

    Raises:
        ElpError: it is missing or empty, or a row has no length.
    """
    if not path.is_file():
        raise ElpError(f"length table {path} does not exist; make it with elp prepare, or remove datarc.bucket_file")
    reader = csv.DictReader(io.StringIO(read_text(path, name=f"length table {path}"), newline=""))
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or [])]
    if missing:
        raise ElpError(f"length table {path} has no column {missing[0]}; it needs file_path and length")
    rows = [_row(row, path) for row in reader]
    if not rows:
        raise ElpError(f"length table {path} contains no utterances")
    return rows


def _row(row: Mapping[str, str], where: Path) -> Entry:
    try:
        rate, channels = (int(row[name]) if row.get(name) else None for name in COLUMNS[2:])
        return Entry(row["file_path"], int(float(row["length"])), rate, channels)
    except (TypeError, ValueError) as error:
        raise ElpError(f"length table {where} has a row without a length: {dict(row)}") from error


def measure(root: Path, found: Split, *, split: str) -> list[tuple[str, Header]]:
    """Return the path and length of each utterance, from the given tables or from the files' (cached) headers."""
    if found.entries is not None:
        return [(entry.path, entry.header) for entry in found.entries]
    files = [row.path for row in found.present]
    cache = index_path(root)
    headers = read_headers(root, files, cache=cache, options=Options(), description=f"lengths of {split}")
    return [(file, headers[file]) for file in files]
