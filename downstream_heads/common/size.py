"""A part of the training set, for experiments on how much data a method needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from upstream_elp.audio.headers import Options, index_path, read_headers
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import number

KEY = "train_minutes"
SIZE_DEFAULTS = {KEY: None}
"""The key of ``datarc`` that all tasks have: the minutes of training audio; null for all."""
SLACK = 1e-3
"""Seconds by which a part may be longer, as sums are rounded."""
Row = TypeVar("Row")


def check_size(options: Mapping[str, Any], *, where: str) -> None:
    """Check the key of :data:`SIZE_DEFAULTS`.

    Raises:
        ElpError: it is neither a positive number nor null.
    """
    if options[KEY] is not None:
        number(options[KEY], key=f"{where}.{KEY}", above=0)


def _path(row: Any) -> str:
    return row.path


def limited(
    root: Path, rows: Sequence[Row], options: Mapping[str, Any], *, path: Callable[[Row], str] = _path
) -> list[Row]:
    """The utterances of the training set that a run uses, in their order.

    They are taken in the order of their names' hashes until the next one would be too much. So the choice looks random,
    is the same on every machine, and a smaller part is contained in every larger one.

    Args:
        root: folder of the corpus.
        rows: all utterances.
        options: the checked data block.
        path: the file of an utterance, relative to ``root``.

    Raises:
        ElpError: the training set is smaller, or the first utterance is already longer.
    """
    minutes = options[KEY]
    if minutes is None:
        return list(rows)
    files = list(dict.fromkeys(map(path, rows)))
    headers = read_headers(root, files, cache=index_path(root), options=Options(), description="lengths of train")
    total = sum(header.seconds for header in headers.values())
    if minutes * 60 > total + SLACK:
        raise ElpError(
            f"config key downstream_expert.datarc.{KEY} must be at most the {total / 60:.4g} minutes of the training "
            f"set, but is {minutes:g}; lower it, or remove it for all"
        )
    kept, taken = set(), 0.0
    for file in sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file)).digest()):
        taken += headers[file].seconds
        if taken > minutes * 60 + SLACK:
            break
        kept.add(file)
    if not kept:
        raise ElpError(
            f"config key downstream_expert.datarc.{KEY} must leave an utterance for training, but the first one is "
            f"longer than {minutes:g} minutes; raise it"
        )
    return [row for row in rows if path(row) in kept]
