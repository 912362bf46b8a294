"""Lengths of utterances from the headers of their files, through the index of headers that the survey fills."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from upstream_elp.audio.headers import Options, index_path, read_headers
from upstream_elp.corpora.checks import converted


def header_lengths(root: Path, files: Sequence[str]) -> list[int]:
    """Return the lengths of files in samples at 16 kHz, without decoding them.

    A file without a usable header gets the length of the next one, which ``--skip-bad-files`` trains on in its place;
    without this flag, the file stops the run as soon as it is read.

    Args:
        root: the corpus, with its own index.
        files: paths relative to it; they may repeat.
    """
    different = list(dict.fromkeys(files))
    options = Options()
    headers = read_headers(root, different, cache=index_path(root), options=options, description=f"lengths in {root}")
    lengths = [0 if headers[file].error else converted(headers[file]).samples for file in files]
    return replaced(lengths)


class Rows(Dataset):
    """The part of a data set that follows from a list of files: their names and lengths.

    Args:
        root: corpus root.
        rows: the items, each with ``name`` and ``path`` relative to the root.
        crop: most samples of an item; None for whole files.
    """

    def __init__(self, root: Path, rows: Sequence[Any], *, crop: int | None = None) -> None:
        self.root, self.rows, self.crop = root, list(rows), crop

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[Path]:
        """Return the audio files of the split."""
        return [self.root / row.path for row in self.rows]

    def item_names(self) -> list[str]:
        """Return the names of the items."""
        return [row.name for row in self.rows]

    def lengths(self) -> list[int]:
        """Return the samples of each item, from its file's header."""
        return self._lengths

    @cached_property
    def _lengths(self) -> list[int]:
        whole = header_lengths(self.root, [row.path for row in self.rows])
        return [min(length, self.crop or length) for length in whole]


def replaced(lengths: Sequence[int]) -> list[int]:
    """Replace lengths of 0 by the next other length, starting again at the end."""
    known = list(lengths)
    after = next((length for length in known if length), 0)
    for place in reversed(range(len(known))):
        after = known[place] = known[place] or after
    return known
