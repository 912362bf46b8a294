"""A user's own data: a manifest names the audio, and what a task needs to know about it, one utterance per row."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.segments import Segment, file_of
from upstream_elp.base.errors import ElpError, counted, either
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem
from upstream_elp.base.values import did_you_mean
from upstream_elp.corpora import checks
from upstream_elp.corpora.reading import Reading
from upstream_elp.corpora.tables import Table, composed, read_table

PATH, SPLIT, SPEAKER, TEXT = "path", "split", "speaker", "text"
START, END, DURATION = "start", "end", "duration"
KNOWN = (PATH, SPLIT, SPEAKER, TEXT, START, END, DURATION)
GAP = "missing-value"
ROUNDING = 0.01
"""Largest difference, in seconds, between ``end`` and ``start`` plus ``duration``."""


def spelled(path: str) -> str:
    """Return a path as it is written where spaces separate fields: with ``%20`` for them."""
    return "%20".join(path.split())


@dataclass(frozen=True)
class Row:
    """One utterance.

    Attributes:
        path: its file, relative to the manifest's folder if it is below it, with the part of it, such as ``#t=1,2.5``.
        split: the full name of its split.
        speaker: its speaker; empty if unknown.
        text: its transcript.
        labels: its labels, one per label column.
        line: its line in the manifest.
    """

    path: str
    split: str
    speaker: str = ""
    text: str = ""
    labels: tuple[str, ...] = ()
    line: int = 0

    @property
    def name(self) -> str:
        """The path without spaces, which names the utterance in results."""
        return spelled(self.path)

    @property
    def slots(self) -> tuple[str, ...]:
        """The labels, as tasks with several labels call them."""
        return self.labels

    @property
    def label(self) -> str:
        """The first label."""
        return self.labels[0]


@dataclass
class Own(Reading[Row]):
    """The contents of a manifest.

    Attributes:
        root: the folder that the paths are relative to.
        manifest: the file.
        of: the rows of each split.
        shared: sentences on speakers that are in two splits.
    """

    root: Path = Path()
    manifest: Path = Path()
    of: dict[str, list[Row]] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)

    def rows_of(self, split: str) -> list[Row]:
        """Return the rows of a split.

        Raises:
            ElpError: it has none.
        """
        if not self.of.get(split):
            raise ElpError(f"{self.manifest} has no row with the split {split}; add some, or evaluate another split")
        return self.of[split]

    def speakers_of(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the speakers of the rows with these names; empty texts if they are unknown."""
        speakers = {row.name: row.speaker for row in self.of[split]}
        return [speakers[name] for name in names]


def read(
    manifest: Path,
    *,
    splits: Mapping[str, str],
    needed: Iterable[str] = (),
    labels: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Own:
    """Read a manifest and find its audio: the only reader of own data, for all commands and tasks.

    Args:
        manifest: a CSV or JSON-lines file.
        splits: the valid values of the column ``split``, and the full name of the split that each means.
        needed: full names of splits that must have rows.
        labels: the columns of the labels; every row needs a value in each.
        columns: other columns of which every row needs a value.
    """
    whole = dict.fromkeys(splits.values())
    found = Own(root=manifest.absolute().parent, manifest=manifest, of={split: [] for split in whole})
    table, name = read_table(manifest), manifest.name
    found.problems += table.problems
    required = [PATH, SPLIT, *columns, *labels]
    if not table.rows or not _has_columns(found, table, required):
        return found
    for line, values in table.rows:
        row, faults = _row(line, values, required, labels, splits=splits)
        for kind, fault in faults:
            cause = f"lines of {name} {fault}" if kind == GAP else ""
            found.problems.append(Problem(kind, name, f"{name} line {line} {fault}.", False, cause))
        if row is not None:
            found.rows.append(row)
    found.problems += _unknown_splits(name, (values[SPLIT] for _, values in table.rows), splits)
    _place_audio(found)
    for row in found.rows:
        found.of[row.split].append(row)
    found.problems += _absent_splits(found, splits, needed)
    found.shared = _shared(found)
    return found


def _has_columns(found: Own, table: Table, required: Sequence[str]) -> bool:
    """Report missing columns, and columns whose names resemble those of optional ones."""
    name = found.manifest.name
    for column in table.columns:
        if column not in (*KNOWN, *required) and (hint := did_you_mean(column, KNOWN, cutoff=0.75)):
            found.remarks.append(f"{name}: the column {column!r} is not used; {hint}")
    absent = [column for column in required if column not in table.columns]
    for column in absent:
        sentence = f"{name} has no column {column}; its columns are {', '.join(table.columns)}"
        if column == SPLIT:
            sentence += f"; add it, or let `elp split {name} OUT{found.manifest.suffix}` draw the splits"
        found.problems.append(Problem("columns", name, f"{sentence}.", False))
    return not absent


def _row(
    line: int, values: Mapping[str, str], required: Sequence[str], labels: Sequence[str], *, splits: Mapping[str, str]
) -> tuple[Row | None, list[tuple[str, str]]]:
    """Return a row, or None if it has faults or no valid split; and the faults, each with its kind."""
    faults = [(GAP, f"has no {column}") for column in required if not composed(values[column])]
    segment, wrong = segment_of(values)
    faults += [("times", wrong)] if wrong else []
    if faults or values[SPLIT] not in splits:
        return None, faults
    place = os.path.normpath(values[PATH])
    row = Row(
        path=place + (str(segment) if segment else ""),
        split=splits[values[SPLIT]],
        speaker=composed(values.get(SPEAKER, "")),
        text=composed(values.get(TEXT, "")),
        labels=tuple(composed(values[column]) for column in labels),
        line=line,
    )
    return row, []


def segment_of(values: Mapping[str, str]) -> tuple[Segment | None, str]:
    """Return the part of the file that a row means, None for the whole file, and what is wrong with its times.

    ``duration`` counts only with ``start``: other tools write the length of the whole file into this column.
    """
    times: dict[str, float] = {}
    for column in (START, END, DURATION):
        if text := values.get(column, ""):
            try:
                times[column] = float(text)
            except ValueError:
                times[column] = math.nan
            if not (math.isfinite(times[column]) and times[column] >= 0):
                return None, f"must have a number of seconds as {column}, but has {text!r}"
    start, end, length = times.get(START), times.get(END), times.get(DURATION)
    if start is None and end is None:
        return None, ""
    begin = start or 0.0
    if start is not None and length is not None:
        last = begin + length
        end = last if end is None else end
        if abs(end - last) > ROUNDING:
            return None, f"has an end of {end:g} s, but start and duration give {last:g} s; correct one of them"
    segment = Segment(begin, end)
    if end is not None and segment.empty:
        return None, f"must have an end after its start, but goes from {begin:g} s to {end:g} s"
    return segment, ""


def _unknown_splits(name: str, given: Iterable[str], splits: Mapping[str, str]) -> list[Problem]:
    """Report unknown names of splits, each once."""
    strange = Counter(value for value in given if value and value not in splits)
    return [
        Problem(
            "split",
            name,
            f"{name} has the split {value!r} in {counted(count, 'row')}, but it must be {either(splits)}.",
            False,
        )
        for value, count in strange.items()
    ]


def _place_audio(found: Own) -> None:
    """Find the audio, and report what is missing or listed twice."""
    name, closed = found.manifest.name, {}
    inside = f"{found.root}{os.sep}"
    plain = [file_of(row.path) for row in found.rows]
    there = locate(found.root, plain, closed=closed)
    rows, first = [], {}
    for row, file in zip(found.rows, plain, strict=True):
        actual = (there[file] or file).removeprefix(inside)
        placed = Row(**{**vars(row), "path": Path(actual).as_posix() + row.path[len(file) :]})
        if placed.name in first:
            sentence = f"{name} line {row.line} lists {placed.path} again, after line {first[placed.name]}; remove one."
            found.problems.append(Problem("duplicate", placed.path, sentence, False, f"lines of {name} repeat others"))
            continue
        first[placed.name] = row.line
        rows.append(placed)
        if there[file] is None:
            found.gone.add(placed.path)
            sentence = f"{name} line {row.line} names {file}, which is missing."
            cause = f"files that {name} names are missing"
            found.problems.append(Problem("missing-audio", placed.path, sentence, False, cause))
    found.rows = rows
    found.problems += checks.closed_problems(closed)


def _absent_splits(found: Own, splits: Mapping[str, str], needed: Iterable[str]) -> list[Problem]:
    """Report splits without rows."""
    name = found.manifest.name
    problems = []
    for split in needed:
        if not found.of.get(split):
            written = either(value for value, meaning in splits.items() if meaning == split)
            sentence = f"{name} has no row with the split {written}; add some, or let "
            sentence += f"`elp split {name} OUT{found.manifest.suffix}` draw the splits that are missing."
            problems.append(Problem("split", name, sentence, False))
    return problems


def _shared(found: Own) -> list[str]:
    """Return sentences on speakers that are in two splits."""
    speakers = {split: {row.speaker for row in rows} - {""} for split, rows in found.of.items()}
    return [
        f"{found.manifest.name} has {counted(len(names), 'speaker')} in both {one} and {other} (such as {names[0]})"
        for one, other, names in checks.shared_speakers(speakers)
    ]


def label_problems(found: Own, columns: Sequence[str], *, train: str = "train") -> list[Problem]:
    """Report labels that no training row has, so that no output of the head means them."""
    name, problems = found.manifest.name, []
    for place, column in enumerate(columns):
        known = {row.labels[place] for row in found.of.get(train, ())}
        for split, rows in found.of.items():
            unknown = Counter(row.labels[place] for row in rows if known and row.labels[place] not in known)
            for value, count in unknown.items():
                sentence = f"{name} has the {column} {value!r} in {counted(count, 'row')} of {split}, but in none of "
                sentence += f"{train}; add training data, or remove these rows."
                problems.append(Problem("label", name, sentence, False))
        if len(known) == 1:
            sentence = f"{name} has only the {column} {min(known)!r} in {train}; a classifier needs at least two."
            problems.append(Problem("label", name, sentence, False))
    return problems
