"""Parts of audio files: a path that ends in ``#t=START,END`` (in seconds) means this part of the file.

This is the form of W3C's media fragments, in which the end may be omitted. All readers of audio accept such paths, so a
part of a recording can stand wherever a file can.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

MARK = "#t="
SLACK = 0.01
"""Seconds by which a part may exceed its file, as times in tables are rounded; the part then ends with the file."""
_PART = re.compile(r"(?s)(.*)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Segment:
    """A part of a file, in seconds; an end of None is that of the file."""

    start: float
    end: float | None = None

    def __str__(self) -> str:
        return MARK + ",".join(_seconds(time) for time in (self.start, self.end) if time is not None)

    @property
    def empty(self) -> bool:
        """Whether the part has no length, to the microsecond."""
        return self.end is not None and round(self.end, 6) <= round(self.start, 6)

    def samples(self, total: int, rate: int) -> tuple[int, int]:
        """Return the first sample and the number of samples in a file of ``total`` samples.

        Raises:
            ValueError: the part is not in the file; the message follows the word "it".
        """
        begin = round(self.start * rate)
        end = total if self.end is None else round(self.end * rate)
        if begin >= total or end > total + SLACK * rate:
            last = self.start if self.end is None else self.end
            raise ValueError(f"reaches to {last:g} s, but the file has only {total / rate:.2f} s")
        return begin, min(end, total) - begin


def split(path: str | os.PathLike[str]) -> tuple[str, Segment | None]:
    """Return the file that a path means, and the part of it; None for the whole file."""
    text = os.fspath(path)
    found = _PART.fullmatch(text) if MARK in text else None
    if found is None:
        return text, None
    file, start, end = found.groups()
    return file, Segment(float(start), None if end is None else float(end))


def file_of(path: str | os.PathLike[str]) -> str:
    """Return the file that a path means."""
    return split(path)[0]


def _seconds(time: float) -> str:
    """Write a time to the microsecond, which is finer than a sample."""
    return f"{time:.6f}".rstrip("0").rstrip(".")
