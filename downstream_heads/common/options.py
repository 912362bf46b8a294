"""Strict reading of a config block: a key that means nothing is an error, not a surprise after a week of training."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from upstream_elp.errors import ElpError


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
    block = {} if block is None else block
    if not isinstance(block, Mapping):
        raise ElpError(f"config key {where} must be a mapping, not {type(block).__name__}")
    unknown = [key for key in block if key not in defaults and key not in set(ignored)]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), list(defaults), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ElpError(f"unknown config key {where}.{unknown[0]}; {hint}valid keys: {', '.join(sorted(defaults))}")
    return {**defaults, **{key: value for key, value in block.items() if key in defaults}}


def choose(value: Any, choices: Iterable[str], *, key: str) -> str:
    """Return ``value`` if it is one of ``choices``; otherwise an ElpError lists them."""
    choices = list(choices)
    if value not in choices:
        raise ElpError(f"config key {key} is {value!r}; choose one of: {', '.join(choices)}")
    return value


def positive_int(value: Any, *, key: str, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ElpError(f"config key {key} is {value!r}; it must be a whole number of at least {least}")
    return value


def problem_list(problems: list[str], *, shown: int = 10) -> str:
    """The first problems and how many more there are, for one error that tells everything at once."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more
