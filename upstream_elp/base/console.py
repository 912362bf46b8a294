"""How a program ends on a user's mistake: with one line on stderr and exit status 2."""

import contextlib
import errno
import sys
from collections.abc import Iterator

import click

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.installed import imported

_HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What newer versions of click raise for a missing command; its message is the help text."""


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print a user's mistake as one line of printable characters and exit with status 2."""
    try:
        with imported():
            yield
    except ElpError as error:
        sentence = str(error)
    except click.ClickException as error:
        if isinstance(error, _HELP):
            error.show()
            sys.exit(error.exit_code)
        context = getattr(error, "ctx", None)
        hint = f"; `{context.command_path} --help` lists its arguments and options" if context else ""
        sentence = f"{error.format_message().rstrip('.')}{hint}"
    except PermissionError as error:
        sentence = (
            f"{error.filename} cannot be opened ({error.strerror}); check its permissions and those of its folders"
        )
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sentence = f"{shown(error.filename)} is too long for a file name"
    else:
        return
    plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(sentence.split()))
    click.echo(f"elp: error: {plain}", err=True)
    sys.exit(2)
