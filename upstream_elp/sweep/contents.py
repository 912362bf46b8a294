"""What is in the audio files of a corpus, from a part of them that stands for all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from upstream_elp.audio.segments import file_of

WHOLE = 64 * 2**20
"""Bytes of a split up to which everything is read."""
FILES = 256
"""How many files of a larger split are read."""
ENDS = 2**19
"""Bytes at the beginning and at the end of such a file that are read."""


def sample(root: Path, files: Sequence[str]) -> str:
    """The sha256 of the files' content; of a large set, of the ends of some files.

    Which files that are follows from their names only, so it is the same wherever the corpus is.

    Args:
        root: the folder of the corpus.
        files: the files, relative to it, possibly parts of recordings.

    Returns:
        64 hexadecimal digits. A missing file counts as such.
    """
    names = sorted({file_of(name) for name in files})
    sizes = {name: _size(root / name) for name in names}
    whole = sum(size or 0 for size in sizes.values()) <= WHOLE
    chosen = names if whole else sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:FILES]
    found = hashlib.sha256()
    for name in sorted(chosen):
        found.update(os.fsencode(f"{name}\0{sizes[name]}\n"))
        if sizes[name] is not None:
            found.update(_read(root / name, sizes[name], whole=whole))
    return found.hexdigest()


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path, size: int, *, whole: bool) -> bytes:
    with path.open("rb") as file:
        if whole or size <= 2 * ENDS:
            return file.read()
        begin = file.read(ENDS)
        file.seek(size - ENDS)
        return begin + file.read(ENDS)
