"""Audio headers of a whole corpus, read in parallel and cached, so that an interrupted run can continue."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from upstream_elp.audio.decoding import CUT, FLOATS, RULES, Decoder, Undecodable, decoding, part
from upstream_elp.audio.levels import excess
from upstream_elp.audio.segments import Segment, file_of, split
from upstream_elp.base.files import cache_dir

CHUNK = 32  # files between two writes to the cache, which a kill may lose
NOT_FINITE = "it contains samples that are not finite"
STAT_CHUNK = 2048  # files whose size and time one thread looks up


@dataclass(frozen=True)
class Header:
    """Length and format of one audio file, or why it cannot be read.

    Attributes:
        samples: samples per channel.
        rate: sample rate in Hz.
        channels: number of channels.
        decoded: whether every sample was decoded, not only the header.
        error: why the file cannot be used; empty if it can.
        peak: largest magnitude of the decoded samples if it is far beyond full scale, otherwise 0.
        passing: whether the error is a (possibly temporary) fault of the file system, not of the file.
    """

    samples: int = 0
    rate: int = 0
    channels: int = 0
    decoded: bool = False
    error: str = ""
    peak: float = 0.0
    passing: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds, 0 for an unreadable file."""
        return self.samples / self.rate if self.rate else 0.0


@dataclass(frozen=True)
class Options:
    """How to read a corpus.

    Attributes:
        jobs: number of threads.
        decode: decode every sample instead of reading only headers.
        skip_broken: write tables without the files that have problems.
        progress: show a progress bar (on a terminal).
    """

    jobs: int = 8
    decode: bool = False
    skip_broken: bool = False
    progress: bool = True


@dataclass(frozen=True)
class _Record:
    """One line of the cache: a file's state and header."""

    path: str
    size: int
    mtime: int
    header: Header

    def dump(self) -> str:
        known = self.header
        row = [RULES, self.path, self.size, self.mtime, known.samples, known.rate, known.channels, known.decoded]
        return json.dumps([*row, known.error, known.peak] if known.error or known.peak else row) + "\n"

    @classmethod
    def parse(cls, row: list) -> "_Record":
        rules, path, size, mtime, samples, rate, channels, decoded, *rest = row
        if rules != RULES:
            raise ValueError(f"records of rules {rules} are not used")
        return cls(path, size, mtime, Header(samples, rate, channels, decoded, *rest))


@lru_cache(maxsize=4)  # a run asks once for every split of a corpus
def _read_records(path: Path, size: int, mtime: int) -> Mapping[str, _Record]:
    """Return all lines of a cache of this size and modification time."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line[-1:] == "]"]
    try:
        rows = json.loads(f"[{','.join(lines)}]")  # many times faster than line by line
    except ValueError:
        rows = [row for line in lines if (row := _loads(line)) is not None]
    records = {}
    for row in rows:
        with contextlib.suppress(ValueError, TypeError):
            record = _Record.parse(row)
            records[record.path] = record
    return MappingProxyType(records)


def _loads(line: str) -> list | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


class HeaderCache:
    """Headers on disk, one JSON line each, appended while reading; a line that a kill cut off is ignored.

    A cached header or fault is valid while the file's path, size and modification time are the same. Faults of the file
    system are not cached.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: Mapping[str, _Record] = {}
        if path.is_file():
            status = path.stat()
            self.records = _read_records(path, status.st_size, status.st_mtime_ns)

    def get(self, path: str, *, size: int, mtime: int, decode: bool) -> Header | None:
        """Return the known header of a file that has not changed, or None."""
        record = self.records.get(path)
        if record is None or (record.size, record.mtime) != (size, mtime):
            return None
        return record.header if record.header.decoded or record.header.error or not decode else None

    def add(self, records: Iterable[_Record]) -> None:
        """Append records in one write; the leading line break closes a line that an earlier kill cut off."""
        text = "".join(record.dump() for record in records)
        if text:
            # if it cannot be written, the next start just takes longer
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write("\n" + text)


def index_path(root: Path) -> Path:
    """Return the file that caches the headers of a corpus, for all commands and tasks."""
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache_dir() / "index" / f"{key}.jsonl"


def read_header(path: Path, *, decode: bool = False) -> Header:
    """Read one file's header, or all its samples, which is also done if the header cannot be trusted.

    A wav file that is cut off is detected in both cases.

    Args:
        path: audio file in a format that libsndfile knows, or a part of one.
        decode: also decode all samples, to detect cut-off or damaged data and values that are not finite.

    Returns:
        The header; for an unreadable file, it has an ``error``.
    """
    name, segment = split(path)
    try:
        if not Path(name).stat().st_size:
            return Header(error="the file has no bytes")
        with decoding(name) as file:
            if segment is not None:
                return _of_part(file, segment, decode=decode)
            return _decoded(file) if decode or not file.counted else _announced(file)
    except Undecodable as problem:
        error = f"{problem}; {problem.advice}" if problem.advice else str(problem)
        return Header(error=error, passing=problem.passing)
    except OSError as problem:
        return Header(error=problem.strerror or str(problem), passing=True)


def _announced(file: Decoder) -> Header:
    """Return the header; the first second of floating-point audio is decoded too, which is cheap."""
    header = Header(int(file.frames), file.samplerate, file.channels)
    if file.subtype not in FLOATS:
        return header
    return replace(header, peak=max(map(excess, file.blocks(limit=file.samplerate)), default=0.0))


def _of_part(file: Decoder, segment: Segment, *, decode: bool) -> Header:
    if file.counted and not decode and file.subtype not in FLOATS:
        with contextlib.suppress(ValueError):  # otherwise decoding says what is wrong
            return Header(segment.samples(int(file.frames), file.samplerate)[1], file.samplerate, file.channels)
    wav = part(file, segment)
    error = "" if np.isfinite(wav).all() else NOT_FINITE
    return Header(len(wav), file.samplerate, file.channels, True, error, excess(wav))


def _decoded(file: Decoder) -> Header:
    total, peak, finite = 0, 0.0, True
    for block in file.blocks():
        total, peak = total + len(block), max(peak, excess(block))
        finite = finite and bool(np.isfinite(block).all())
    error = "" if finite else NOT_FINITE
    return Header(total, file.samplerate, file.channels, True, CUT if file.ends_early(total) else error, peak)


def read_headers(
    root: Path, files: Iterable[str], *, cache: Path, options: Options, description: str = "headers"
) -> dict[str, Header]:
    """Read the headers of many files, using the cache for known ones.

    Args:
        root: folder that ``files`` are relative to.
        files: audio files.
        cache: file of the cache; created if missing.
        options: threads, decoding, progress.
        description: label of the progress bar.

    Returns:
        The header of every file, in the order of ``files``.
    """
    known, files = HeaderCache(cache), list(files)
    headers: dict[str, Header] = {}
    fresh: list[str] = []
    for file, header in _look_up(root, files, known, options):
        headers[file] = header
        if not header.error and not header.rate:  # not known yet
            fresh.append(file)
    chunks = [fresh[start : start + CHUNK] for start in range(0, len(fresh), CHUNK)]
    parallel = Parallel(n_jobs=options.jobs, prefer="threads", return_as="generator")
    # `disable=None` keeps the bar out of log files
    with tqdm(total=len(fresh), desc=description, unit="file", disable=None if options.progress else True) as bar:
        for records in parallel(delayed(_read_chunk)(root, chunk, options.decode) for chunk in chunks):
            known.add(record for record in records if not record.header.passing)
            headers.update((record.path, record.header) for record in records)
            bar.update(len(records))
    return headers


def _look_up(root: Path, files: list[str], known: HeaderCache, options: Options) -> Iterator[tuple[str, Header]]:
    """Yield the cached header of each unchanged file, and an empty header for other files."""

    def look(chunk: list[str]) -> list[tuple[str, Header]]:
        found = []
        for file in chunk:
            try:
                status = os.stat(os.path.join(root, file_of(file)))  # noqa: PTH116, PTH118 - pathlib takes ten times as long
            except OSError as problem:
                found.append((file, Header(error=problem.strerror or str(problem), passing=True)))
                continue
            header = known.get(file, size=status.st_size, mtime=status.st_mtime_ns, decode=options.decode)
            found.append((file, header or Header()))
        return found

    with ThreadPoolExecutor(options.jobs) as pool:
        for chunk in pool.map(look, [files[start : start + STAT_CHUNK] for start in range(0, len(files), STAT_CHUNK)]):
            yield from chunk


def _read_chunk(root: Path, files: list[str], decode: bool) -> list[_Record]:
    return [_read(root, file, decode) for file in files]


def _read(root: Path, file: str, decode: bool) -> _Record:
    try:
        status = (root / file_of(file)).stat()
    except OSError as problem:
        return _Record(file, 0, 0, Header(error=problem.strerror or str(problem), passing=True))
    return _Record(file, status.st_size, status.st_mtime_ns, read_header(root / file, decode=decode))
