"""What this process was asked for, as far as S3PRL does not hand it on: the user's words, and the adapter as read."""

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
        adapter: the content of the configuration that ``-g`` names; None where no adapter is to be made from one.
        named: what ``-g`` says in the run's final flags.
    """

    command: Sequence[str]
    adapter: Mapping[str, Any] | None = None
    named: str | None = None


_asked: list[Asked] = []


@contextlib.contextmanager
def asked(request: Asked) -> Iterator[None]:
    """Within this context the process does what was asked."""
    _asked.append(request)
    try:
        yield
    finally:
        _asked.pop()


def command() -> list[str]:
    """What the user typed."""
    return list(_asked[-1].command) if _asked else sys.argv


def configuration(named: str | None) -> Any:
    """What to give an ``elp_*`` entry as ``model_config``: the content of ``-g`` where it has been read already.

    Args:
        named: what ``-g`` says.
    """
    known = _asked[-1] if _asked else None
    return named if known is None or known.adapter is None or known.named != named else known.adapter
