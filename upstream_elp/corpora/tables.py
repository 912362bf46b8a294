"""Tables of a user's own data: CSV or JSON lines, read into rows of text with the number of their line."""

import csv
import io
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upstream_elp.base import texts
from upstream_elp.base.errors import counted
from upstream_elp.base.problems import Problem

SUFFIXES = (".csv", ".jsonl")
OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What other programs write between columns."""


@dataclass
class Table:
    """The contents of a table.

    Attributes:
        columns: the names of the columns, in order.
        rows: the number of each row's line, and its values; a missing value is an empty text.
        problems: what is wrong with the table itself.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, name: str, sentence: str, cause: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, name, sentence, False, cause))


def is_table(path: Path) -> bool:
    """Return whether a path has the ending of a table and is not a folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def holds_data(place: Path) -> bool:
    """Return whether a path is a folder, as of corpora, or a table that exists."""
    return place.is_dir() or (is_table(place) and place.is_file())


def read_table(path: Path) -> Table:
    """Read a table of UTF-8 text: comma-separated values with a header, or one JSON object per line.

    Values are without spaces at their ends; numbers and truth values of JSON become the texts that CSV would have.

    Args:
        path: the file, whose ending says which form it has.
    """
    found, name = Table(), path.name
    content, fault = texts.read(path)
    if fault:
        found.add("encoding", name, f"{name} {fault}.")
    if path.suffix.lower() == ".jsonl":
        _read_json(found, content, name)
    else:
        _read_csv(found, content, name)
    if not (found.rows or found.problems):
        found.add("layout", name, f"{name} has no rows.")
    return found


def _read_csv(found: Table, content: str, name: str) -> None:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = [_clean(column) for column in next(reader, [])]
        repeated = sorted({column for column in header if header.count(column) > 1})
        if repeated:
            found.add("columns", name, f"{name} has the column {repeated[0]!r} twice; rename or remove one.")
        found.columns = header
        if len(header) == 1 and (mark := next((mark for mark in OTHER_MARKS if mark in header[0]), None)):
            sentence = f"{name} has {OTHER_MARKS[mark]} between its columns; save it with commas."
            found.add("columns", name, sentence)
            return
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                count = counted(len(values), "value")
                sentence = f"{name} line {reader.line_num} has {count}, but the header has {len(header)}; a comma in a "
                sentence += "value needs quotes around it."
                found.add("columns", name, sentence, f"lines of {name} have more or fewer values than the header")
            else:
                cleaned = map(_clean, values)
                found.rows.append((reader.line_num, dict(zip(header, cleaned, strict=True))))
    except csv.Error as error:
        found.add("csv", name, f"{name} line {reader.line_num} cannot be read as CSV ({error}); save the table again.")


def _read_json(found: Table, content: str, name: str) -> None:
    columns: dict[str, None] = {}
    for number, line in enumerate(texts.lines(content), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            row = {_clean(key): _text(item) for key, item in value.items()} if isinstance(value, Mapping) else None
        except (ValueError, RecursionError):  # also a text that is not Unicode
            row = None
        if row is None:
            sentence = f"{name} line {number} must be a JSON object of texts and numbers, but is not; correct it."
            found.add("json", name, sentence, f"lines of {name} are not JSON objects of texts and numbers")
            continue
        columns |= dict.fromkeys(row)
        found.rows.append((number, row))
    found.columns = list(columns)
    for _, row in found.rows:
        row.update(dict.fromkeys(columns.keys() - row.keys(), ""))


def _text(value: Any) -> str:
    """Return a JSON value as the text that CSV would have.

    Raises:
        ValueError: it is a list or an object, or is not Unicode text.
    """
    if value is None:
        return ""
    if isinstance(value, list | dict):
        raise ValueError
    text = value if isinstance(value, str) else json.dumps(value)
    text.encode()
    return _clean(text)


def _clean(text: str) -> str:
    return text.strip()


def composed(text: str) -> str:
    """Return a text with single spaces and composed characters (NFC), so that equal texts are the same text."""
    return " ".join(unicodedata.normalize("NFC", text).split())
