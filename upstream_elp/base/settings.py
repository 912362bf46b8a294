"""The settings of a run that are not S3PRL's flags: one object, read from the environment and handed on here only.

A user sets a variable, or a flag of ``elp run``, which counts more. ``elp run`` puts what it decided in force for its
process (:func:`in_force`); that also writes it into the environment, from where every process that is started inside,
such as a spawned data-loading process, reads it by itself. Ranks are started by torchrun with the user's own words.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from upstream_elp.base.errors import ElpError, shown

VARIABLES = {
    "data": "ELP_DATA",
    "backbone": "ELP_BACKBONE",
    "cache": "ELP_CACHE",
    "self_check": "ELP_SELF_CHECK",
    "stock_loop": "ELP_STOCK_LOOP",
    "skip_bad_files": "ELP_SKIP_BAD_FILES",
    "ddp_hours": "ELP_DDP_HOURS",
}
"""Setting -> environment variable."""
MOST_HOURS = 1_000_000
"""What torch can still count in milliseconds."""


@dataclass(frozen=True)
class Settings:
    """What a user may set for a run beside S3PRL's flags.

    Args:
        data: folder that holds the corpora.
        backbone: where the backbone of an adapter folder is, or one that has moved.
        cache: folder for derived tables.
        self_check: whether adapters are checked when they are put into a backbone.
        stock_loop: whether S3PRL's own loop trains.
        skip_bad_files: whether audio that cannot be used is skipped.
        ddp_hours: how long ranks wait for each other.
    """

    data: str | None = None
    backbone: str | None = None
    cache: str | None = None
    self_check: bool = True
    stock_loop: bool = False
    skip_bad_files: bool = False
    ddp_hours: float = 12.0


_in_force: list[Settings] = []


def current() -> Settings:
    """The settings in force: those of the run that this process makes, else what the environment says.

    Raises:
        ElpError: a variable with a value that means nothing.
    """
    return _in_force[-1] if _in_force else from_environment()


def from_environment() -> Settings:
    """What the user's variables say; an empty one counts as not set.

    Raises:
        ElpError: a variable with a value that means nothing.
    """
    texts = {name: text or None for name, text in in_words().items()}
    return Settings(
        data=texts["data"],
        backbone=texts["backbone"],
        cache=texts["cache"],
        self_check=texts["self_check"] != "0",
        stock_loop=texts["stock_loop"] is not None,
        skip_bad_files=texts["skip_bad_files"] == "1",
        ddp_hours=_hours(texts["ddp_hours"]),
    )


def in_words() -> dict[str, str | None]:
    """Each setting as the environment has it, None where the variable is not set."""
    return {name: os.environ.get(variable) for name, variable in VARIABLES.items()}


@contextlib.contextmanager
def in_force(settings: Settings) -> Iterator[None]:
    """Let the settings count within this context, for this process and for those that it starts."""
    known = from_environment()
    changed = [name for name in VARIABLES if getattr(settings, name) != getattr(known, name)]
    texts = {VARIABLES[name]: _text(settings, name) for name in changed}
    before = {variable: os.environ.get(variable) for variable in texts}
    _export(texts)
    _in_force.append(settings)
    try:
        yield
    finally:
        _in_force.pop()
        _export(before)


def _export(texts: dict[str, str | None]) -> None:
    for variable, text in texts.items():
        if text is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = text


def _text(settings: Settings, name: str) -> str | None:
    """How a variable says it; None for what a variable that is not set means."""
    value = getattr(settings, name)
    if value == getattr(Settings, name):
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _hours(text: str | None) -> float:
    if text is None:
        return Settings.ddp_hours
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= MOST_HOURS:
        raise ElpError(f"ELP_DDP_HOURS is {shown(text)}, but must be a number of hours above 0; unset it for 12")
    return hours
