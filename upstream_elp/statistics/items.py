"""The results of every item of a test set with their speakers, and the file that keeps them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_text
from upstream_elp.base.texts import read_text

KEY, SPEAKER, SECOND = "key", "speaker", "speaker2"
TEXT = ("predicted", "true")
"""Columns of text; all others are numbers."""
ERRORS, TOTAL = "_errors", "_total"
SCORE, SAME = "score", "same"
GIVEN = ("true", SAME)
"""Columns that belong to the test set, not to a method; so do those that end in ``_total``."""


@dataclass(frozen=True, eq=False)
class Items:
    """The results of one test set.

    The columns decide which measures there are: ``<name>_errors`` and ``<name>_total`` make the error rate ``name``;
    ``score`` and ``same`` (1 for the same speaker, 0 for two) make ``eer``; ``predicted`` and ``true`` make ``uacc``;
    any other column of numbers is the share of its own name, such as ``acc`` with 1 for right and 0 for wrong.

    Attributes:
        keys: the name of each item; a name may repeat.
        speaker: the speaker of each item; empty if unknown.
        columns: name -> values of shape ``(items,)``.
        second: the second speaker of each trial; None unless items are trials.
        fold: the fold of each item; None for a single test set.
        about: task, split, step, checkpoint and so on, as far as known.

    Raises:
        ElpError: there are no items, or lengths differ.
    """

    keys: Sequence[str]
    speaker: Sequence[str]
    columns: Mapping[str, np.ndarray]
    second: Sequence[str] | None = None
    fold: Sequence[str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.keys):
            raise ElpError("a test set must have at least one item, but has none; evaluate the run again")
        lists = {SPEAKER: self.speaker, SECOND: self.second, "fold": self.fold, **self.columns}
        for name, values in lists.items():
            if values is not None and len(values) != len(self.keys):
                raise ElpError(
                    f"the column {name!r} of per-item results must have {len(self.keys)} values, one for each key, "
                    f"but has {len(values)}; give every item a value"
                )
        columns = {name: _column(name, values) for name, values in self.columns.items()}
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures that the columns make, in their order."""
        names = []
        for name in self.columns:
            if name.endswith(ERRORS) and name.removesuffix(ERRORS) + TOTAL in self.columns:
                names.append(name.removesuffix(ERRORS))
            elif name == SCORE and SAME in self.columns:
                names.append("eer")
            elif name == "true" and "predicted" in self.columns:
                names.append("uacc")
            elif name not in (*TEXT, SCORE, SAME) and not name.endswith((ERRORS, TOTAL)):
                names.append(name)
        return tuple(sorted(names, key=lambda name: name == "uacc"))  # the accuracy is the main measure

    @cached_property
    def _names(self) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
        """The clusters of each item: speakers, or ``(True, key)`` for an item without one."""
        first = [(not who, who or key) for who, key in zip(self.speaker, self.keys, strict=True)]
        if self.second is None:
            return first, first
        rows = zip(self.second, first, strict=True)
        return first, [(False, who) if who else own for who, own in rows]

    @cached_property
    def clusters(self) -> list[tuple[bool, str]]:
        """The clusters, sorted: ``(False, speaker)``, then ``(True, key)`` of items without a speaker."""
        first, second = self._names
        return sorted({*first, *second})

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of each item's first and second cluster, equal unless they are trials. Shapes ``(items,)``."""
        number = {name: place for place, name in enumerate(self.clusters)}
        first, second = (np.array([number[name] for name in names]) for names in self._names)
        return first, second

    @property
    def unknown(self) -> int:
        """How many clusters are items without a speaker."""
        return sum(unknown for unknown, _ in self.clusters)

    def take(self, places: np.ndarray) -> Items:
        """Return the items at these places."""

        def chosen(values: Sequence[str] | None) -> list[str] | None:
            return None if values is None else [values[place] for place in places]

        return replace(
            self,
            keys=chosen(self.keys),
            speaker=chosen(self.speaker),
            columns={name: values[places] for name, values in self.columns.items()},
            second=chosen(self.second),
            fold=chosen(self.fold),
        )


def _column(name: str, values: Any) -> np.ndarray:
    if name in TEXT:
        return np.asarray([str(value) for value in values], dtype=object)
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ElpError(
            f"the column {name!r} of per-item results must have numbers only, but has others ({error}); "
            "evaluate the run again"
        ) from error


def items_path(folder: str | Path, split: str) -> Path:
    """Return the file of a split in an experiment folder: ``items-<split>.csv``."""
    return Path(folder) / f"items-{split}.csv"


def save_items(path: str | Path, items: Items) -> Path:
    """Write items in one step, as CSV behind a first line ``# {...}`` with what they are.

    Raises:
        ElpError: the folder cannot be written to.
    """
    lists: dict[str, Sequence[Any]] = {KEY: items.keys, SPEAKER: items.speaker}
    lists |= {name: values for name, values in ((SECOND, items.second), ("fold", items.fold)) if values is not None}
    for name, values in items.columns.items():
        # the shortest text that reads back as the same number; whole numbers without a point
        lists[name] = list(values) if name in TEXT else [_number(value) for value in values.tolist()]
    text = io.StringIO()
    text.write(f"# {json.dumps(dict(items.about))}\n")
    csv.writer(text, lineterminator="\n").writerows([tuple(lists), *zip(*lists.values(), strict=True)])
    return write_text(path, text.getvalue())


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def load_items(path: str | Path, split: str | None = None) -> Items:
    """Read the items of a test set.

    Args:
        path: an ``items-<split>.csv``, or an experiment folder.
        split: the split's full name, if ``path`` is a folder; it may be omitted if the folder has only one such file.

    Raises:
        ElpError: there is no such file, or it is not one of ours.
    """
    path = Path(path)
    if path.is_dir() or split is not None:
        path = _in_folder(path, split)
    if not path.is_file():
        raise ElpError(f"{path} does not exist; evaluate the run with `elp run -m evaluate`, which writes it")
    text = read_text(path, name=f"the file of per-item results {path}")
    first, _, rest = text.partition("\n")
    try:
        about = json.loads(first.removeprefix("# "))
        rows = list(csv.DictReader(io.StringIO(rest, newline=""), strict=True))
    except (ValueError, csv.Error):
        about, rows = None, []
    if not isinstance(about, dict) or not rows or not {KEY, SPEAKER} <= rows[0].keys():
        raise ElpError(
            f"{path} must be a CSV file with the columns {KEY} and {SPEAKER} behind a line `# {{...}}`, but is not; "
            "evaluate the run again"
        )
    if any(None in row or None in row.values() for row in rows):
        raise ElpError(f"{path} must have as many values in every line as in its header, but has not; evaluate again")
    lists = {name: [row[name] for row in rows] for name in rows[0]}
    named = {name: lists.pop(name, None) for name in (KEY, SPEAKER, SECOND, "fold")}
    return Items(named[KEY], named[SPEAKER], lists, named[SECOND], named["fold"], about)


def _in_folder(folder: Path, split: str | None) -> Path:
    found = sorted(folder.glob("items-*.csv"))
    if split is not None:
        path = items_path(folder, split)
        if path not in found:
            there = ", ".join(file.name for file in found) or "none"
            raise ElpError(f"{folder} has no {path.name} (there are: {there}); evaluate this split with `elp run`")
        return path
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise ElpError(f"{folder} must have one items-<split>.csv, but has: {there}; name the file or the split")
    return found[0]


def join_folds(folds: Mapping[str, Items]) -> Items:
    """Join the test sets of several folds; measures of the result are means over the folds.

    Raises:
        ElpError: there are none, or they differ in their columns.
    """
    parts = list(folds.values())
    if not parts:
        raise ElpError("a mean over folds needs at least one fold, but there is none; give at least one")
    names = list(parts[0].columns)
    for fold, part in folds.items():
        if list(part.columns) != names or (part.second is None) != (parts[0].second is None):
            raise ElpError(
                f"all folds must have the columns {', '.join(names)}, but {fold} has {', '.join(part.columns)}; "
                "join folds of one task only"
            )
    seconds = None if parts[0].second is None else [who for part in parts for who in part.second]
    return Items(
        [key for part in parts for key in part.keys],
        [who for part in parts for who in part.speaker],
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        seconds,
        [fold for fold, part in folds.items() for _ in range(len(part))],
        {**parts[0].about, "folds": list(folds)},
    )


def aligned(reference: Items, other: Items, *, name: str) -> Items:
    """Return ``other`` in the order of ``reference``, whose test set must be the same.

    Args:
        reference: the items that give the order.
        other: the items of another method or seed.
        name: what to call the other ones in the message.

    Raises:
        ElpError: the two have other items, speakers, references or folds.
    """
    ours, theirs = _numbered(reference), _numbered(other)
    if ours.keys() != theirs.keys():
        only = sorted((ours.keys() ^ theirs.keys()), key=str)
        raise ElpError(
            f"{name} must have the same {len(reference):,} items as the results it is compared with, but "
            f"{len(only):,} differ (such as {only[0][1]!r}); evaluate both on the same test set"
        )
    placed = other.take(np.array([theirs[key] for key in ours]))
    for column in _given(reference):
        if column not in placed.columns or not np.array_equal(reference.columns[column], placed.columns[column]):
            raise ElpError(
                f"{name} must have the same column {column!r} as the results it is compared with, but differs; "
                "evaluate both on the same test set"
            )
    if placed.clusters != reference.clusters or any((placed.places[i] != reference.places[i]).any() for i in (0, 1)):
        raise ElpError(f"{name} must have the same speakers as the results it is compared with, but differs")
    return placed


def _numbered(items: Items) -> dict[tuple[str, str, int], int]:
    """Number equal keys of a fold, as a drawn dev set can have an item twice."""
    seen: Counter = Counter()
    places = {}
    for place, key in enumerate(items.keys):
        fold = "" if items.fold is None else items.fold[place]
        places[fold, key, seen[fold, key]] = place
        seen[fold, key] += 1
    return places


def _given(items: Items) -> list[str]:
    return [name for name in items.columns if name in GIVEN or name.endswith(TOTAL)]
