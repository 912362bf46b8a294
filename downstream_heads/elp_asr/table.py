"""Lengths of a LibriSpeech-like corpus: read from S3PRL's tables, or measured once and kept in the cache."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from downstream_heads.common.options import problem_list
from upstream_elp.audio.headers import Options, index_path, read_headers
from upstream_elp.audio.reading import MIN_SAMPLES, SAMPLE_RATE
from upstream_elp.audio.skips import SplitSkips
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.base.folders import refuse_closed, subfolders
from upstream_elp.base.texts import read_text
from upstream_elp.corpora.librispeech import Chapters, scan_chapters

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


def length_table(
    root: Path,
    folder: str,
    *,
    bucket_file: str | Path | None = None,
    skip: SplitSkips | None = None,
    chapters: Chapters | None = None,
) -> list[Entry]:
    """The utterances of one part of the corpus, longest first (equal lengths by path).

    Args:
        root: corpus root.
        folder: a part of it, such as ``train-clean-100``.
        bucket_file: folder of S3PRL's length tables, which hold ``<part>.csv`` with the columns file_path and length.
        skip: takes files that cannot be read; None makes them an error.
        chapters: what :func:`read_part` found, where it was asked.

    Raises:
        ElpError: the part or its table is missing, empty, or holds files that cannot be read.
    """
    if bucket_file:
        entries = _given_table(Path(bucket_file), folder)
    else:
        entries = _measured_table(root, folder, (chapters or read_part(root, folder)).files, skip)
    return sorted(entries, key=lambda entry: (-entry.length, entry.path))


def read_part(root: Path, folder: str) -> Chapters:
    """What a part of the corpus holds.

    Raises:
        ElpError: it is not there, or folders cannot be listed.
    """
    base = root / folder
    if not base.is_dir():
        present = ", ".join(subfolders(root)) or "none"
        raise ElpError(f"{base} does not exist: {root} lacks the part {folder}; parts that are there: {present}")
    chapters = scan_chapters(root, base)
    refuse_closed(chapters.closed, root)
    return chapters


def check_audio(entries: Iterable[Entry], *, resample: bool, channels: str, where: str) -> None:
    """Refuse, before training, files that could not be used: too short, of another rate, with several channels.

    Raises:
        ElpError: tells the first ten files and the number of the others.
    """
    problems = []
    for entry in entries:
        if entry.length < MIN_SAMPLES:
            problems.append(f"{entry.path} has {entry.length} samples (at least {MIN_SAMPLES} are needed)")
        elif entry.rate not in (None, SAMPLE_RATE) and not resample:
            problems.append(f"{entry.path} has {entry.rate} Hz (set datarc.resample to convert it)")
        elif entry.channels not in (None, 1) and channels == "error":
            problems.append(f"{entry.path} has {entry.channels} channels (set datarc.channels to mean or first)")
    if problems:
        raise ElpError(f"{where} has audio that cannot be used: {problem_list(problems)}")


def _given_table(bucket_file: Path, folder: str) -> list[Entry]:
    path = bucket_file / f"{folder}.csv"
    if not path.is_file():
        raise ElpError(
            f"length table {path} does not exist; make it with elp prepare, or leave datarc.bucket_file empty"
        )
    rows = _read_csv(read_text(path, name=f"length table {path}"), str(path))
    if not rows:
        raise ElpError(f"length table {path} holds no utterance")
    return rows


def _measured_table(root: Path, folder: str, names: list[str], skip: SplitSkips | None) -> list[Entry]:
    base = root / folder
    if not names:
        raise ElpError(f"{base} holds no <speaker>/<chapter>/*.flac")
    headers = read_headers(root, names, cache=index_path(root), options=Options(), description=f"lengths of {folder}")
    faults = {name: header.error for name, header in headers.items() if header.error}
    if faults and skip is None:
        told = problem_list([f"{name} ({fault})" for name, fault in faults.items()])
        raise ElpError(f"{base} has files that cannot be read: {told}")
    for name, fault in faults.items():
        skip.note(AudioError(f"{root / name} cannot be read: {fault}", root / name), lasting=True)
    return [
        Entry(name, header.samples, header.rate, header.channels)
        for name, header in headers.items()
        if name not in faults
    ]


def _read_csv(text: str, where: str) -> list[Entry]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or [])]
    if missing:
        raise ElpError(f"length table {where} has no column {missing[0]}; it needs file_path and length")
    return [_row(row, where) for row in reader]


def _row(row: Mapping[str, str], where: str) -> Entry:
    try:
        rate, channels = (int(row[name]) if row.get(name) else None for name in COLUMNS[2:])
        return Entry(row["file_path"], int(float(row["length"])), rate, channels)
    except (TypeError, ValueError) as error:
        raise ElpError(f"length table {where} has a row without a length: {dict(row)}") from error
