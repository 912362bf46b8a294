"""The one exception that a user is meant to read, and how the command line tells it."""

import contextlib
import errno
import reprlib
import sys
from collections.abc import Iterator
from typing import Any

import click


class ElpError(ValueError):
    """A wrong input, told in one sentence that names the file or key and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Print a user's mistake as one line of plain characters, whatever a file made of it, and exit with status 2."""
    try:
        yield
    except ElpError as error:
        sentence = str(error)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sentence = f"{shown(error.filename)} is too long for the name of a file"
    else:
        return
    plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(sentence.split()))
    click.echo(f"elp: error: {plain}", err=True)
    sys.exit(2)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """What a user wrote, for a sentence; cut short, as an aliased YAML value can be endless."""
    return _SHORT.repr(value)
