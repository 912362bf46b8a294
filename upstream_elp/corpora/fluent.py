"""Fluent Speech Commands: the three CSV tables, their audio, speakers and slot values."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.audio.headers import Options
from upstream_elp.base import texts
from upstream_elp.base.errors import counted
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks, files
from upstream_elp.corpora.listing import Report, summarise

SPLITS = ("train", "valid", "test")
SLOTS = ("action", "object", "location")
COLUMNS = ("path", "speakerId", "transcription", *SLOTS)
OFFICIAL = {"train": 23_132, "valid": 3_118, "test": 3_793}
OFFICIAL_SLOTS = {"action": 6, "object": 14, "location": 4}


@dataclass
class Table:
    """One csv as read.

    Attributes:
        rows: those that have every value.
        absent: columns that it lacks.
        gaps: number of each line that lacks values, and their columns.
        fault: what is wrong with the file's coding; empty where nothing is.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    gaps: list[tuple[int, list[str]]] = field(default_factory=list)
    fault: str = ""


def parse_table(path: Path, *, columns: Iterable[str] = COLUMNS) -> Table:
    """Read ``data/<split>_data.csv``, of which some columns are needed."""
    columns = list(columns)
    content, fault = texts.read(path)
    reader = csv.DictReader(io.StringIO(content, newline=""))
    table = Table(fault=fault)
    try:
        table.absent = [column for column in columns if column not in (reader.fieldnames or ())]
        for row in [] if table.absent else reader:
            lacking = [column for column in columns if not (row[column] or "").strip()]
            if lacking:
                table.gaps.append((reader.line_num, lacking))
            else:
                table.rows.append({column: row[column].strip() for column in columns})
    except csv.Error as error:
        table.fault = fault or f"line {reader.line_num} cannot be read as CSV ({error}); save the table again"
    return table


def read_table(path: Path, *, name: str) -> tuple[list[dict[str, str]], list[Problem]]:
    """Read one table.

    Args:
        path: ``data/<split>_data.csv``.
        name: the table's name for the sentences.

    Returns:
        Its rows, without those that lack a value, and what is wrong with it.
    """
    if not path.is_file():
        return [], [Problem("layout", name, f"{name} is missing.", False)]
    table = parse_table(path)
    problems = [Problem("encoding", name, f"{name} {table.fault}.", False)] if table.fault else []
    if table.absent:
        sentence = f"{name} lacks the columns {', '.join(table.absent)}; it must have {', '.join(COLUMNS)}."
        return [], problems or [Problem("columns", name, sentence, False)]
    for line, lacking in table.gaps:
        sentence = f"{name} line {line} has no {', '.join(lacking)}."
        cause = f"lines of {name} have no {', '.join(lacking)}"
        problems.append(Problem("missing-value", name, sentence, False, cause))
    if not table.rows and not problems:
        problems.append(Problem("layout", name, f"{name} has no rows.", False))
    return table.rows, problems


def slot_values(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return each slot's values in order of first appearance, the order of stock S3PRL's class indices.

    Source: s3prl/downstream/fluent_commands/expert.py:58-63.
    """
    return {slot: list(dict.fromkeys(row[slot] for row in rows)) for slot in SLOTS}


def slot_problems(tables: dict[str, list[dict[str, str]]]) -> list[Problem]:
    """Report values of valid and test that training never shows; stock S3PRL fails on them in the middle of a run."""
    known = slot_values(tables["train"])
    problems = []
    for split in SPLITS[1:]:
        for slot in SLOTS:
            counts = Counter(row[slot] for row in tables[split] if row[slot] not in known[slot])
            for value, count in counts.items():
                sentence = (
                    f"data/{split}_data.csv has the {slot} {value!r} in {counted(count, 'row')}, "
                    f"but train has no such {slot}."
                )
                problems.append(Problem("slot-value", f"data/{split}_data.csv", sentence, False))
    return problems


def speaker_problems(tables: dict[str, list[dict[str, str]]]) -> list[Problem]:
    """Report speakers that stand in more than one table."""
    speakers = {split: {row["speakerId"] for row in rows} for split, rows in tables.items()}
    return [
        Problem(
            "speakers",
            f"data/{b}_data.csv",
            f"data/{b}_data.csv shares {counted(len(shared), 'speaker')} with data/{a}_data.csv (such as {shared[0]}).",
            False,
        )
        for a, b, shared in checks.shared_speakers(speakers)
    ]


@dataclass
class Placed:
    """Tables whose audio was looked for.

    Attributes:
        tables: the rows of each split, each ``path`` as the file is called on disk.
        gone: the paths of files that are not there, or in folders that cannot be listed.
        problems: what is missing, listed twice, or in such folders.
    """

    tables: dict[str, list[dict[str, str]]]
    gone: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def place_audio(root: Path, tables: dict[str, list[dict[str, str]]]) -> Placed:
    """Look for the audio of the tables.

    Args:
        root: the corpus.
        tables: the rows of each split.
    """
    closed: dict[str, str] = {}
    found = locate(root, (row["path"] for rows in tables.values() for row in rows), closed=closed)
    placed = Placed({split: [_on_disk(row, found) for row in rows] for split, rows in tables.items()})
    placed.gone = {path for path, there in found.items() if there is None or path.rpartition("/")[0] in closed}
    first: dict[str, str] = {}
    absent = {}
    for split, rows in placed.tables.items():
        name = f"data/{split}_data.csv"
        for path in (row["path"] for row in rows):
            if path in first:
                sentence = f"{path} stands in {first[path]} and again in {name}."
                placed.problems.append(Problem("duplicate", path, sentence, False, "files are listed twice"))
            elif path in placed.gone:
                sentence, cause = f"{path} is missing, but {name} lists it.", f"files that {name} lists are missing"
                absent[path] = Problem("missing-audio", path, sentence, False, cause)
            first.setdefault(path, name)
    placed.problems += checks.closed_problems(closed) + absent_problems(root, absent)
    return placed


def _on_disk(row: dict[str, str], found: dict[str, str | None]) -> dict[str, str]:
    return {**row, "path": found[row["path"]] or row["path"]}


def prepare(root: Path, out: Path, *, options: Options | None = None) -> Report:
    """Check Fluent Speech Commands and write ``slots.json``, the class indices; the tasks read the corpus' own tables.

    Args:
        root: folder that holds ``data`` and ``wavs``.
        out: folder for the report.
        options: how to read.

    Raises:
        ElpError: where ``root`` is not Fluent Speech Commands.
    """
    options = options or Options()
    files.check_root(root, holds=("data", "wavs"), unpacked="fluent_speech_commands_dataset")
    report = Report("fluent-speech-commands", root, files.open_out(out))
    tables = {}
    for split in SPLITS:
        name = f"data/{split}_data.csv"
        tables[split], problems = read_table(root / name, name=name)
        report.problems += problems
    placed = place_audio(root, tables)
    tables = placed.tables
    report.problems += placed.problems + speaker_problems(tables) + slot_problems(tables)
    paths = dict.fromkeys(row["path"] for rows in tables.values() for row in rows)
    every = [path for path in paths if path not in placed.gone]
    headers = report.read(every, options)
    report.problems += [problem for file in every for problem in checks.audio_problems(file, headers[file])]
    for split, rows in tables.items():
        paths, speakers = [row["path"] for row in rows], [row["speakerId"] for row in rows]
        report.splits.append(summarise(split, paths, headers, speakers))
    slots = slot_values(tables["train"])
    counts = [(f"rows of {split}", len(rows), OFFICIAL[split]) for split, rows in tables.items()]
    counts += [(f"values of {slot}", len(values), OFFICIAL_SLOTS[slot]) for slot, values in slots.items()]
    report.warnings += checks.count_warnings(counts)
    report.details["slots"] = slots
    if not report.blocked(skip_broken=False):
        report.tables.append(files.write_json(out / "slots.json", slots))
    return report
