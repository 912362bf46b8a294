"""Audio headers of a whole corpus, read in parallel, remembered on disk and continued after an interruption."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from joblib import Parallel, delayed
from tqdm import tqdm

from upstream_elp.audio import wav_is_cut

CHUNK = 32  # files between two writes to the cache: what a kill can lose
BLOCK = 1 << 16  # samples decoded at a time


@dataclass(frozen=True)
class Header:
    """Length and format of one audio file, or why it cannot be read.

    Attributes:
        samples: samples per channel.
        rate: sample rate in Hz.
        channels: number of channels.
        decoded: whether every sample was decoded, not the header alone.
        error: why the file cannot be used; empty where it can.
    """

    samples: int = 0
    rate: int = 0
    channels: int = 0
    decoded: bool = False
    error: str = ""

    @property
    def seconds(self) -> float:
        """Duration in seconds, 0 for an unreadable file."""
        return self.samples / self.rate if self.rate else 0.0


@dataclass(frozen=True)
class Options:
    """How to read a corpus.

    Attributes:
        jobs: threads that read.
        decode: decode every sample instead of reading headers alone.
        skip_broken: write tables without the files that have problems.
        progress: show a progress bar (on a terminal).
    """

    jobs: int = 8
    decode: bool = False
    skip_broken: bool = False
    progress: bool = True


@dataclass(frozen=True)
class _Record:
    """One line of the cache: a file as it was, and its header."""

    path: str
    size: int
    mtime: int
    header: Header

    def dump(self) -> str:
        known = self.header
        row = [self.path, self.size, self.mtime, known.samples, known.rate, known.channels, known.decoded]
        return json.dumps(row) + "\n"

    @classmethod
    def parse(cls, line: str) -> "_Record":
        path, size, mtime, samples, rate, channels, decoded = json.loads(line)
        return cls(path, size, mtime, Header(samples, rate, channels, decoded))


class HeaderCache:
    """Headers on disk, one JSON line each, appended while reading; a line cut off by a kill is ignored.

    A file counts as known while its path, size and modification time are the same. Errors are not kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, _Record] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = _Record.parse(line)
                except ValueError:
                    continue
                self.records[record.path] = record

    def get(self, path: str, *, size: int, mtime: int, decode: bool) -> Header | None:
        """Return the known header of a file that has not changed, or None."""
        record = self.records.get(path)
        if record is None or (record.size, record.mtime) != (size, mtime) or (decode and not record.header.decoded):
            return None
        return record.header

    def add(self, records: Iterable[_Record]) -> None:
        """Append records in one write; the leading line break closes a line that an earlier kill cut off."""
        text = "".join(record.dump() for record in records)
        if text:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("\n" + text)


def read_header(path: Path, *, decode: bool = False) -> Header:
    """Read one file's header, or every sample of it.

    Args:
        path: audio file of a format that libsndfile knows.
        decode: decode all samples too: finds cut-off or damaged data and values that are not finite.

    Returns:
        The header; for an unreadable file one with ``error`` set.
    """
    try:
        if not path.stat().st_size:
            return Header(error="the file has no bytes")
        info = soundfile.info(str(path))
        error = _decode_error(path, frames=info.frames) if decode else ""
    except soundfile.LibsndfileError as problem:
        return Header(error=problem.error_string.strip().rstrip(".") or "its format is not recognised")
    except OSError as problem:
        return Header(error=problem.strerror or str(problem))
    return Header(info.frames, info.samplerate, info.channels, decode, error)


def _decode_error(path: Path, *, frames: int) -> str:
    if wav_is_cut(path):
        return "it is cut off: its header promises more bytes than there are"
    total = 0
    for block in soundfile.blocks(str(path), blocksize=BLOCK, dtype="float32"):
        total += len(block)
        if not np.isfinite(block).all():
            return "it holds samples that are not finite"
    return "" if total == frames else f"it is cut off: its header promises {frames} samples, {total} can be decoded"


def read_headers(
    root: Path, files: Iterable[str], *, cache: Path, options: Options, description: str = "headers"
) -> dict[str, Header]:
    """Read the headers of many files, what is known already from the cache.

    Args:
        root: folder that ``files`` are relative to.
        files: audio files.
        cache: file of the cache, created where missing.
        options: threads, decoding, progress.
        description: words beside the progress bar.

    Returns:
        The header of every file, in the order of ``files``.
    """
    known, files = HeaderCache(cache), list(files)
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    parallel = Parallel(n_jobs=options.jobs, prefer="threads", return_as="generator")
    results = parallel(delayed(_read_chunk)(root, chunk, known, options.decode) for chunk in chunks)
    headers: dict[str, Header] = {}
    # `disable=None` keeps the bar out of log files
    with tqdm(total=len(files), desc=description, unit="file", disable=None if options.progress else True) as bar:
        for records in results:
            known.add(record for record, fresh in records if fresh)
            headers.update((record.path, record.header) for record, _ in records)
            bar.update(len(records))
    return headers


def _read_chunk(root: Path, files: list[str], known: HeaderCache, decode: bool) -> list[tuple[_Record, bool]]:
    return list(_read_each(root, files, known, decode))


def _read_each(root: Path, files: list[str], known: HeaderCache, decode: bool) -> Iterator[tuple[_Record, bool]]:
    """Yield each file's record and whether the cache lacks it."""
    for file in files:
        try:
            status = (root / file).stat()
        except OSError as problem:
            yield _Record(file, 0, 0, Header(error=problem.strerror or str(problem))), False
            continue
        size, mtime = status.st_size, status.st_mtime_ns
        header = known.get(file, size=size, mtime=mtime, decode=decode)
        fresh = header is None
        header = read_header(root / file, decode=decode) if header is None else header
        yield _Record(file, size, mtime, header), fresh and not header.error
