"""The utterances of a split: read from the corpus or named by S3PRL's length tables, and how long each one is."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        path: below the corpus root.
        length: in samples of the file.
        rate: in Hz; None where the table does not say.
        channels: None where the table does not say.
    """

    path: str
    length: int
    rate: int | None = None
    channels: int | None = None

    @property
    def header(self) -> Header:
        """What a header would say, as far as the table does."""
        return Header(self.length, self.rate or SAMPLE_RATE, self.channels or 1)


@dataclass
class Split(Reading[Utterance]):
    """The utterances of one split.

    Attributes:
        entries: the rows of given length tables; None where the corpus itself was read.
    """

    entries: list[Entry] | None = None

    def add(self, found: Reading[Utterance]) -> None:
        """Take in one part of the corpus."""
        self.rows += found.rows
        self.gone |= found.gone
        self.problems += found.problems
        self.remarks += found.remarks


def read_split(
    root: Path, split: str, folders: Sequence[str], *, characters: Characters, bucket_file: str | Path | None = None
) -> Split:
    """Find the utterances of a split and their transcripts.

    Args:
        root: corpus root.
        split: the split's name, for the sentences.
        folders: the parts of the corpus that make it.
        characters: the dictionary.
        bucket_file: folder of S3PRL's length tables, which hold ``<part>.csv`` with the columns file_path and length
            and may select some of the utterances; None takes all.
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
    """The utterances that a length table names."""
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
        ElpError: it is missing or empty, or a row lacks a length.
    """
    if not path.is_file():
        raise ElpError(
            f"length table {path} does not exist; make it with elp prepare, or leave datarc.bucket_file empty"
        )
    reader = csv.DictReader(io.StringIO(read_text(path, name=f"length table {path}"), newline=""))
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or [])]
    if missing:
        raise ElpError(f"length table {path} has no column {missing[0]}; it needs file_path and length")
    rows = [_row(row, path) for row in reader]
    if not rows:
        raise ElpError(f"length table {path} holds no utterance")
    return rows


def _row(row: Mapping[str, str], where: Path) -> Entry:
    try:
        rate, channels = (int(row[name]) if row.get(name) else None for name in COLUMNS[2:])
        return Entry(row["file_path"], int(float(row["length"])), rate, channels)
    except (TypeError, ValueError) as error:
        raise ElpError(f"length table {where} has a row without a length: {dict(row)}") from error


def measure(root: Path, found: Split, *, split: str) -> list[tuple[str, Header]]:
    """Each utterance's path and length: from given tables, else from the files' headers, which are kept."""
    if found.entries is not None:
        return [(entry.path, entry.header) for entry in found.entries]
    files = [row.path for row in found.present]
    cache = index_path(root)
    headers = read_headers(root, files, cache=cache, options=Options(), description=f"lengths of {split}")
    return [(file, headers[file]) for file in files]
