"""Names that are readable and fit into a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from upstream_elp.base.errors import ElpError, shown

LONGEST = 80
"""Characters of a run's folder before its hash."""
HASH = 10
"""Characters of the hash."""


def slug(text: str, where: str) -> str:
    """Return a name that can be a folder's.

    Raises:
        ElpError: it contains other characters.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", text):
        raise ElpError(
            f"{where} must begin with a letter or digit and have only letters, digits and . _ + -, but is {shown(text)}"
        )
    return text


def written(values: Mapping[str, Any]) -> str:
    """Changed keys as in a folder's name or a table: their last part, and the value."""
    parts = {"+".join(each.rpartition(".")[2] for each in split(key)): value for key, value in values.items()}
    return ",".join(f"{name}={_short(value)}" for name, value in parts.items())


def split(key: str) -> list[str]:
    """The keys that vary together, which a plan separates by commas."""
    return [each.strip() for each in key.split(",")]


def apart(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by single key."""
    return {each: value for key, value in values.items() for each in split(key)}


def folder_name(*parts: str, key: str) -> str:
    """A readable folder name: the parts, shortened, and the beginning of a hash."""
    readable = "-".join(re.sub(r"[^A-Za-z0-9._+=,-]+", "_", part) for part in parts if part)
    return f"{readable[:LONGEST].rstrip('-')}-{key[:HASH]}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(_short, value))
    if isinstance(value, Mapping):
        return "+".join(f"{key}:{_short(item)}" for key, item in value.items())
    return str(value)
