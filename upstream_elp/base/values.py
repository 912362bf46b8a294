"""Strict reading of config values and blocks: an unknown key or a wrong value is an error.

Every message has the form ``config key X must be ..., but is ...`` (:func:`wrong_value`).
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from upstream_elp.base.errors import ElpError


def is_whole(value: Any, *, least: int = 1) -> bool:
    """Return whether a value is a whole number of at least ``least``; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def wrong_value(value: Any, must: str, *, key: str) -> ElpError:
    """Return the error for a config value.

    Args:
        value: the value.
        must: what it must be, such as ``true or false``.
        key: its dotted key.
    """
    return ElpError(f"config key {key} must be {must}, but is {value!r}")


def did_you_mean(name: Any, valid: Iterable[str], *, then: str = "", most: int = 1, cutoff: float = 0.6) -> str:
    """Return the question "did you mean ...?" for an invalid name; it is absent if no valid name is similar.

    Args:
        name: what a user wrote.
        valid: the valid names.
        then: what follows the question, or stands in its place.
        most: how many names to suggest.
        cutoff: how similar they must be, from 0 to 1.
    """
    close = get_close_matches(str(name), list(valid), n=most, cutoff=cutoff)
    question = f"did you mean {', '.join(close)}?" if close else ""
    return f"{question} {then}".strip()


def read_options(
    block: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
    *,
    where: str,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """Fill ``defaults`` with the values of a config block.

    Args:
        block: the content of the config file; None counts as empty.
        defaults: every valid key, with its default.
        where: the block's name in messages, such as ``downstream_expert.datarc``.
        ignored: keys of S3PRL's stock config that have no meaning here.

    Raises:
        ElpError: the block is not a mapping, or it contains an unknown key.
    """
    block = mapping(block, key=where)
    unknown = [key for key in block if key not in defaults and key not in set(ignored)]
    if unknown:
        hint = did_you_mean(unknown[0], defaults, then=f"valid keys: {', '.join(sorted(defaults))}")
        raise ElpError(f"unknown config key {where}.{unknown[0]}; {hint}")
    return {**defaults, **{key: value for key, value in block.items() if key in defaults}}


def choose(value: Any, choices: Iterable[str], *, key: str) -> str:
    """Return ``value`` if it is one of ``choices``; otherwise raise an error that lists them."""
    choices = list(choices)
    if value not in choices:
        raise wrong_value(value, f"{'one of ' if len(choices) > 1 else ''}{', '.join(choices)}", key=key)
    return value


def positive_int(value: Any, *, key: str, least: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``least``."""
    if not is_whole(value, least=least):
        raise wrong_value(value, f"a whole number of at least {least}", key=key)
    return value


def boolean(value: Any, *, key: str) -> bool:
    """Return ``value`` if it is true or false; the text ``"false"`` would count as true."""
    if not isinstance(value, bool):
        raise wrong_value(value, "true or false", key=key)
    return value


def number(
    value: Any,
    *,
    key: str,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return ``value`` if it is a finite number within the limits; ``above`` and ``below`` are exclusive."""
    if not is_number(value) or not (least <= value <= most and above < value < below):
        limits = {"at least": least, "above": above, "below": below, "at most": most}
        named = " and ".join(f"{name} {limit}" for name, limit in limits.items() if math.isfinite(limit))
        raise wrong_value(value, f"a number {'of ' if named.startswith('at') else ''}{named}".rstrip(), key=key)
    return value


def mapping(value: Any, *, key: str) -> dict[str, Any]:
    """Return a block as a dict; None counts as an empty block."""
    if value is not None and not isinstance(value, Mapping):
        raise wrong_value(value, "a mapping (a block of keys and values)", key=key)
    return dict(value or {})


def check_paths(options: Mapping[str, Any], keys: Iterable[str], *, where: str) -> None:
    """Raise an error for a path that is neither text nor null."""
    for key in keys:
        if options[key] is not None and not isinstance(options[key], str | os.PathLike):
            raise wrong_value(options[key], "a path or null", key=f"{where}.{key}")


def check_list(value: Any, check: Callable[..., Any], *, key: str, **limits: Any) -> list:
    """Return ``value`` if it is a list whose items pass ``check`` (one of the functions above)."""
    if not isinstance(value, list | tuple):
        raise wrong_value(value, f"a list, such as [{value}]", key=key)
    for index, item in enumerate(value):
        check(item, key=f"{key}[{index}]", **limits)
    return list(value)


def problem_list(problems: list[str], *, shown: int = 10) -> str:
    """Join the first problems and the number of the others, for a single error message."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more
