"""Strict reading of values and blocks: a key that means nothing is an error, not a surprise after a week."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from upstream_elp.base.errors import ElpError


def is_whole(value: Any, *, least: int = 1) -> bool:
    """Whether a value is a whole number of at least ``least``; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def did_you_mean(name: Any, valid: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """The question "did you mean ...?" for a name that is not valid; empty if no valid name is close.

    Args:
        name: what a user wrote.
        valid: the valid names.
        most: how many names to propose.
        cutoff: how similar they must be, from 0 to 1.
    """
    close = get_close_matches(str(name), list(valid), n=most, cutoff=cutoff)
    return f"did you mean {', '.join(close)}?" if close else ""


def read_options(
    block: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
    *,
    where: str,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """Fill ``defaults`` with the values of a config block.

    Args:
        block: what the config file holds; None counts as empty.
        defaults: every key the task knows, with its default.
        where: the block's name in messages, such as ``downstream_expert.datarc``.
        ignored: keys of S3PRL's stock config that have no meaning here and are passed over.

    Raises:
        ElpError: the block is no mapping or holds an unknown key.
    """
    block = mapping(block, key=where)
    unknown = [key for key in block if key not in defaults and key not in set(ignored)]
    if unknown:
        hint = " ".join([did_you_mean(unknown[0], defaults), "valid keys:"]).lstrip()
        raise ElpError(f"unknown config key {where}.{unknown[0]}; {hint} {', '.join(sorted(defaults))}")
    return {**defaults, **{key: value for key, value in block.items() if key in defaults}}


def choose(value: Any, choices: Iterable[str], *, key: str) -> str:
    """Return ``value`` if it is one of ``choices``; otherwise an ElpError lists them."""
    choices = list(choices)
    if value not in choices:
        raise ElpError(f"config key {key} is {value!r}; choose one of: {', '.join(choices)}")
    return value


def positive_int(value: Any, *, key: str, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    if not is_whole(value, least=least):
        raise ElpError(f"config key {key} is {value!r}; it must be a whole number of at least {least}")
    return value


def boolean(value: Any, *, key: str) -> bool:
    """Return ``value`` if it is true or false; the word ``"false"`` would count as true."""
    if not isinstance(value, bool):
        raise ElpError(f"config key {key} is {value!r}; it must be true or false")
    return value


def number(value: Any, *, key: str, least: float = -math.inf, below: float = math.inf, most: float = math.inf) -> float:
    """Return ``value`` if it is a finite number, at least ``least``, less than ``below`` and at most ``most``."""
    if not is_number(value) or not least <= value < below or value > most:
        limits = f" of at least {least}" if math.isfinite(least) else ""
        limits += f"{' and' if limits else ''} below {below}" if math.isfinite(below) else ""
        limits += f", at most {most}" if math.isfinite(most) else ""
        raise ElpError(f"config key {key} is {value!r}; it must be a number{limits}")
    return value


def mapping(value: Any, *, key: str) -> dict[str, Any]:
    """Return a block as a dict; None counts as empty."""
    if value is not None and not isinstance(value, Mapping):
        raise ElpError(f"config key {key} is {value!r}; it must be a mapping (a block of keys and values)")
    return dict(value or {})


def check_paths(options: Mapping[str, Any], keys: Iterable[str], *, where: str) -> None:
    """Refuse paths that are neither text nor null."""
    for key in keys:
        if options[key] is not None and not isinstance(options[key], str | os.PathLike):
            raise ElpError(f"config key {where}.{key} is {options[key]!r}; it must be a path or null")


def check_list(value: Any, check: Callable[..., Any], *, key: str, **limits: Any) -> list:
    """Return ``value`` if it is a list whose members pass ``check`` (one of the functions above)."""
    if not isinstance(value, list | tuple):
        raise ElpError(f"config key {key} is {value!r}; it must be a list, such as [{value}]")
    for place, member in enumerate(value):
        check(member, key=f"{key}[{place}]", **limits)
    return list(value)


def problem_list(problems: list[str], *, shown: int = 10) -> str:
    """The first problems and how many more there are, for one error that tells everything at once."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more
