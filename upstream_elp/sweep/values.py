"""Values in a plan: each is checked, and a wrong one is one sentence that names its key.

Every function takes the value and what to call it, and raises an :class:`ElpError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from downstream_heads import registry
from downstream_heads.stock import REFUSED, STOCK
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean, is_whole


def check_keys(raw: Mapping[str, Any], valid: Iterable[str], where: str) -> None:
    """Refuse unknown keys of a block."""
    valid = list(valid)
    for key in raw:
        if key not in valid:
            hint = did_you_mean(key, valid, then=f"the keys are: {', '.join(valid)}")
            raise ElpError(f"{where}: unknown key {shown(key)}; {hint}")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a block; null is an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise ElpError(f"{where} must be a block of keys and values, but is {shown(value)}")
    return dict(value or {})


def entries(raw: Mapping[str, Any], key: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the blocks in a list, each with what to call it; a missing list is empty."""
    found = []
    for number, entry in enumerate(filled(raw[key], f"{where}: {key}") if raw.get(key) is not None else []):
        name = f"{where}: {key}[{number}]"
        if not (block := mapping(entry, name)):
            raise ElpError(f"{name} must be a block of keys, such as methods: [elp], but is empty; remove it")
        found.append((name, block))
    return found


def filled(value: Any, where: str) -> list[Any]:
    """Return a list that is not empty."""
    if not isinstance(value, list | tuple) or not value:
        raise ElpError(f"{where} must be a list that is not empty, such as [a, b], but is {shown(value)}")
    return list(value)


def distinct(value: Any, where: str) -> tuple[Any, ...]:
    """Return a list that is not empty and names nothing twice."""
    listed = filled(value, where)
    if twice := [each for each in listed if listed.count(each) > 1]:
        raise ElpError(f"{where} must name each value once, but {shown(twice[0])} is there twice; remove one")
    return tuple(listed)


def seeds(value: Any, where: str) -> tuple[int, ...]:
    """Return a list of seeds."""
    for seed in (found := distinct(value, where)):
        if not is_whole(seed, least=0) or seed >= 2**32:
            raise ElpError(f"{where} must be whole numbers from 0 to 4294967295, but one is {shown(seed)}")
    return found


def texts(value: Any, where: str) -> tuple[str, ...]:
    """Return a list of texts."""
    return tuple(text(each, where) for each in distinct(value, where))


def text(value: Any, where: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ElpError(f"{where} must be text, but is {shown(value)}")
    return value


def tasks(value: Any, where: str) -> tuple[str, ...]:
    """Return a list of tasks by their full names."""
    return distinct([task(each, where) for each in filled(value, where)], where)


def task(value: Any, where: str) -> str:
    """Return the full name of a task."""
    whole = registry.whole_name(str(value))
    if whole in REFUSED:
        raise ElpError(f"{where}: S3PRL's own task {whole} {REFUSED[whole]}")
    if whole not in (*registry.names(), *STOCK):
        short = [*(each.short for each in registry.tasks().values()), *STOCK]
        hint = did_you_mean(value, short, then="correct it")
        raise ElpError(f"{where}: a task must be one of {', '.join(short)}, but is {shown(value)}; {hint}")
    return whole
