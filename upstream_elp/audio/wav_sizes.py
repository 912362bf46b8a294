"""The sizes in the header of a wav or aiff, which libsndfile does not check: it reads whatever there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, NamedTuple

STREAMED = 0x7FFF_0000
"""Sizes from this one on mean "unknown": a program that writes to a pipe cannot fill them in later."""
_KINDS = {
    (b"RIFF", b"WAVE"): ("little", b"data"),
    (b"RIFX", b"WAVE"): ("big", b"data"),
    (b"FORM", b"AIFF"): ("big", b"SSND"),
    (b"FORM", b"AIFC"): ("big", b"SSND"),
}
"""First four bytes and kind of a file -> byte order of its numbers, and name of the chunk with the samples."""


class _Chunk(NamedTuple):
    """A part of a file: its name, where its content begins, and its stated size in bytes."""

    name: bytes
    start: int
    size: int


def is_cut(file: IO[bytes]) -> bool:
    """Return whether the file contains less audio than its header announces."""
    length, found = _length(file), _audio(file)
    return found is not None and length < found.start + found.size < found.start + STREAMED


def true_sizes(file: IO[bytes]) -> dict[int, bytes]:
    """Return the correct sizes for a wav whose header says that it contains no samples although it does.

    A program that ends early, or that writes to a pipe, may leave the initial zeros in the header. Whether libsndfile
    then reads everything or nothing depends on the other size in the header.

    Returns:
        Positions in the file and the bytes that belong there; empty for any other file.
    """
    length, found = _length(file), _audio(file)
    if found is None or found.name != b"data" or found.size or found.start == length:
        return {}
    order = _KINDS[_kind(file)][0]
    if _are_chunks(file, found.start, length, order):
        return {}  # other chunks follow: the wav is really empty
    sizes = {4: length - 8, found.start - 4: length - found.start}
    return {place: min(size, 0xFFFF_FFFF).to_bytes(4, order) for place, size in sizes.items()}


def _audio(file: IO[bytes]) -> _Chunk | None:
    """Return the chunk of the samples; None if there is none, or the file is of another kind."""
    kind = _kind(file)
    if kind not in _KINDS:
        return None
    order, name = _KINDS[kind]
    return next((chunk for chunk in _chunks(file, 12, order) if chunk.name == name), None)


def _kind(file: IO[bytes]) -> tuple[bytes, bytes]:
    file.seek(0)
    start = file.read(12)
    return start[:4], start[8:]


def _chunks(file: IO[bytes], place: int, order: str) -> Iterator[_Chunk]:
    """Yield the chunks from a position on, whether or not their names make sense."""
    file.seek(place)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], order)
        yield _Chunk(head[:4], place + 8, size)
        place += 8 + size + size % 2
        file.seek(place)


def _are_chunks(file: IO[bytes], place: int, length: int, order: str) -> bool:
    """Return whether chunks with readable names follow a position up to the end of the file."""
    end = place
    for chunk in _chunks(file, place, order):
        if not all(32 <= letter < 127 for letter in chunk.name):
            return False
        end = chunk.start + chunk.size
    return length <= end + 1 and end <= length


def _length(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)
