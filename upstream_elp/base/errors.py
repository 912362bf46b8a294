"""The exceptions that are meant for users, and helpers for their sentences."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class ElpError(ValueError):
    """A wrong input, described in one sentence that names the file or key and says what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class DivergedError(ElpError):
    """A training whose loss or gradients are not finite any more."""


class AudioError(ElpError):
    """An audio file that cannot be used; ``--skip-bad-files`` skips such files.

    Args:
        sentence: what is wrong, naming the file.
        path: the file; empty if the exception comes from another process, since only the sentence is passed on.
        option: the reading option that would accept the file (``resample``, ``channels``, ``too_short``); the sentence
            then ends in ``; `` and the advice for a training run.
    """

    def __init__(self, sentence: str, path: Any = "", *, option: str = "") -> None:
        super().__init__(sentence)
        self.path = str(path)
        self.option = option

    def advising(self, advice: Mapping[str, str]) -> AudioError:
        """Return the same error with the caller's advice for its option, as each caller sets options differently."""
        if self.option not in advice:
            return self
        fault = str(self).rpartition("; ")[0]
        return AudioError(f"{fault}; {advice[self.option]}", self.path, option=self.option)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, each once: an exception that is raised from itself is its own cause."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an exception or one of its causes is of a kind."""
    return any(isinstance(link, kind) for link in chain(error))


def one_line(error: BaseException) -> str:
    """Return what an exception says in one line, or its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def sentence_of(error: ElpError) -> str:
    """Return the sentence without the traceback that torch prepends to errors of data-loading processes."""
    return str(error).split(f"{type(error).__name__}: ")[-1].strip()


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """Format a value from a user for a sentence; it is cut short, as an aliased YAML value can be endless."""
    return _SHORT.repr(value)


def counted(count: int, one: str, many: str = "") -> str:
    """Format a number with its noun, ``1 file`` or ``2 files``; ``many`` is an irregular plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def either(words: Iterable[str]) -> str:
    """Join choices for a sentence: ``a``, ``a or b``, or ``a, b or c``."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
