"""The settings of a run beyond S3PRL's flags: one object, read from and exported to the environment only here.

A user sets a variable or a flag of ``elp run``; the flag takes precedence. ``elp run`` applies its settings to its own
process (:func:`in_force`) and exports them to the environment, from which the processes that it starts, such as spawned
data-loading processes, read them. Ranks are started by torchrun with the user's own arguments.
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
    "fill_cache": "ELP_FILL_CACHE",
    "ddp_hours": "ELP_DDP_HOURS",
}
"""Setting -> environment variable."""
MOST_HOURS = 1_000_000
"""About the most that torch can count in milliseconds."""


@dataclass(frozen=True)
class Settings:
    """What a user may set for a run in addition to S3PRL's flags.

    Args:
        data: folder of the corpora.
        backbone: path of the backbone that an adapter folder was trained on, if it has moved.
        cache: folder for derived tables.
        self_check: whether adapters are checked when they are inserted into a backbone.
        stock_loop: whether to train with S3PRL's own loop.
        skip_bad_files: whether unusable audio files are skipped.
        fill_cache: whether to compute cached features instead of training.
        ddp_hours: how long ranks wait for each other.
    """

    data: str | None = None
    backbone: str | None = None
    cache: str | None = None
    self_check: bool = True
    stock_loop: bool = False
    skip_bad_files: bool = False
    fill_cache: bool = False
    ddp_hours: float = 12.0


_in_force: list[Settings] = []


def current() -> Settings:
    """Return the settings of the current run, or of the environment outside a run.

    Raises:
        ElpError: a variable has an invalid value.
    """
    return _in_force[-1] if _in_force else from_environment()


def from_environment() -> Settings:
    """Read the user's variables; an empty one counts as not set.

    Raises:
        ElpError: a variable has an invalid value.
    """
    texts = {name: text or None for name, text in in_words().items()}
    return Settings(
        data=texts["data"],
        backbone=texts["backbone"],
        cache=texts["cache"],
        **{name: _switch(name, texts[name]) for name in ("self_check", "stock_loop", "skip_bad_files", "fill_cache")},
        ddp_hours=_hours(texts["ddp_hours"]),
    )


def in_words() -> dict[str, str | None]:
    """Return the text of each variable in the environment, None if it is not set."""
    return {name: os.environ.get(variable) for name, variable in VARIABLES.items()}


@contextlib.contextmanager
def in_force(settings: Settings) -> Iterator[None]:
    """Apply the settings within this context, to this process and those that it starts."""
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


def exported(settings: Settings) -> dict[str, str]:
    """Return the variables that give these settings to another process; defaults are not among them."""
    texts = {VARIABLES[name]: _text(settings, name) for name in VARIABLES}
    return {variable: text for variable, text in texts.items() if text is not None}


def _export(texts: dict[str, str | None]) -> None:
    for variable, text in texts.items():
        if text is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = text


def _text(settings: Settings, name: str) -> str | None:
    """Format a setting for its variable; None if it equals the default."""
    value = getattr(settings, name)
    if value == getattr(Settings, name):
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _switch(name: str, text: str | None) -> bool:
    if text not in (None, "0", "1"):
        raise ElpError(f"{VARIABLES[name]} must be 0 or 1, but is {shown(text)}; correct it, or unset it")
    return getattr(Settings, name) if text is None else text == "1"


def _hours(text: str | None) -> float:
    if text is None:
        return Settings.ddp_hours
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= MOST_HOURS:
        raise ElpError(f"ELP_DDP_HOURS must be a number of hours above 0, but is {shown(text)}; unset it to use 12")
    return hours
