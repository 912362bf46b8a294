"""The one exception that a user is meant to read."""

import reprlib
from typing import Any


class ElpError(ValueError):
    """A wrong input, told in one sentence that names the file or key and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """What a user wrote, for a sentence; cut short, as an aliased YAML value can be endless."""
    return _SHORT.repr(value)
