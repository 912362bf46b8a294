"""The one exception that a user is meant to read."""

import reprlib
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
    """

    def __init__(self, sentence: str, path: Any = "") -> None:
        super().__init__(sentence)
        self.path = str(path)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """What a user wrote, for a sentence; cut short, as an aliased YAML value can be endless."""
    return _SHORT.repr(value)
