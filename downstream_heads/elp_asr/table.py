"""Lengths of a LibriSpeech-like corpus: read from S3PRL's tables, or measured once and kept in the cache."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
from tqdm import tqdm

from downstream_heads.common.files import cache_dir, digest, write_text
from downstream_heads.common.options import problem_list
from upstream_elp.audio import MIN_SAMPLES, SAMPLE_RATE
from upstream_elp.errors import ElpError

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


def length_table(root: Path, folder: str, *, bucket_file: str | Path | None = None) -> list[Entry]:
    """The utterances of one part of the corpus, longest first (equal lengths by path).

    Args:
        root: corpus root.
        folder: a part of it, such as ``train-clean-100``.
        bucket_file: folder of S3PRL's length tables, which hold ``<part>.csv`` with the columns file_path and length.

    Raises:
        ElpError: the part or its table is missing, empty, or holds files that cannot be read.
    """
    entries = _given_table(Path(bucket_file), folder) if bucket_file else _measured_table(root, folder)
    return sorted(entries, key=lambda entry: (-entry.length, entry.path))


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
    rows = _read_csv(path.read_text(encoding="utf-8"), str(path))
    if not rows:
        raise ElpError(f"length table {path} holds no utterance")
    return rows


def _measured_table(root: Path, folder: str) -> list[Entry]:
    base = root / folder
    if not base.is_dir():
        present = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
        raise ElpError(f"{base} does not exist: {root} lacks the part {folder}; parts that are there: {present}")
    files = sorted(path for path in base.glob("*/*/*.flac") if not path.name.startswith("."))
    if not files:
        raise ElpError(f"{base} holds no <speaker>/<chapter>/*.flac")
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    key = digest(str(root.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    cached = cache_dir() / "lengths" / f"{folder}-{key}.csv"
    if cached.is_file():
        return _read_csv(cached.read_text(encoding="utf-8"), str(cached))
    entries = _measure(root, [name for name, _ in stats], folder)
    write_text(cached, _to_csv(entries))
    return entries


def _measure(root: Path, names: Sequence[str], folder: str) -> list[Entry]:
    def look(name: str) -> Entry | str:
        try:
            info = soundfile.info(str(root / name))
        except (soundfile.LibsndfileError, OSError) as error:
            return f"{name} ({error})"
        return Entry(name, info.frames, info.samplerate, info.channels)

    with ThreadPoolExecutor(8) as pool:
        seen = list(
            tqdm(pool.map(look, names), total=len(names), desc=f"lengths of {folder}", disable=len(names) < 1000)
        )
    problems = [entry for entry in seen if isinstance(entry, str)]
    if problems:
        raise ElpError(f"{root / folder} has files that cannot be read: {problem_list(problems)}")
    return [entry for entry in seen if isinstance(entry, Entry)]


def _to_csv(entries: Iterable[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((entry.path, entry.length, entry.rate, entry.channels) for entry in entries)
    return text.getvalue()


def _read_csv(text: str, where: str) -> list[Entry]:
    reader = csv.DictReader(io.StringIO(text))
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
