"""The one exception that a user is meant to read."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any


class ElpError(ValueError):
    """A wrong input, told in one sentence that names the file or key and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class AudioError(ElpError):
    """An audio file that cannot be used; ``--skip-bad-files`` leaves such files out.

    Args:
        sentence: what is wrong, naming the file.
        path: the file; empty where the exception came from another process, which keeps the sentence alone.
        option: the option of reading that would accept the file (``resample``, ``channels``, ``too_short``); then the
            sentence ends in ``; `` and what to do, as a training would be told it.
    """

    def __init__(self, sentence: str, path: Any = "", *, option: str = "") -> None:
        super().__init__(sentence)
        self.path = str(path)
        self.option = option

    def advising(self, advice: Mapping[str, str]) -> AudioError:
        """The same error with the advice for its option where there is one: how it is set differs by caller."""
        if self.option not in advice:
            return self
        fault = str(self).rpartition("; ")[0]
        return AudioError(f"{fault}; {advice[self.option]}", self.path, option=self.option)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it, each once: what a library raises from itself is its own cause."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def sentence_of(error: ElpError) -> str:
    """Its sentence, without the traceback that torch puts before it where it comes from a data-loading process."""
    return str(error).split(f"{type(error).__name__}: ")[-1].strip()


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """What a user wrote, for a sentence; cut short, as an aliased YAML value can be endless."""
    return _SHORT.repr(value)


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun, ``1 file`` or ``2 files``; ``many`` where an s alone does not make the plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
