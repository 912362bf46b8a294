"""What the user asked for and S3PRL does not pass on: the command line, and the adapter's configuration as read."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request.

    Args:
        command: what the user typed; S3PRL gets other arguments, without our flags.
        adapter: the content of the configuration that ``-g`` names; None if it creates no adapters.
        named: the value of ``-g`` in the run's final flags.
    """

    command: Sequence[str]
    adapter: Mapping[str, Any] | None = None
    named: str | None = None


_asked: list[Asked] = []


@contextlib.contextmanager
def asked(request: Asked) -> Iterator[None]:
    """Make this the current request within the context."""
    _asked.append(request)
    try:
        yield
    finally:
        _asked.pop()


def command() -> list[str]:
    """What the user typed."""
    return list(_asked[-1].command) if _asked else sys.argv


def configuration(named: str | None) -> Any:
    """The ``model_config`` for an ``elp_*`` entry: the content of ``-g`` if it has already been read, else its name.

    Args:
        named: the value of ``-g``.
    """
    known = _asked[-1] if _asked else None
    return named if known is None or known.adapter is None or known.named != named else known.adapter
