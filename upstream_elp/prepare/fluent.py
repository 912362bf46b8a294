"""Fluent Speech Commands: the three CSV tables, their audio, speakers and slot values."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.errors import counted
from upstream_elp.prepare import checks, files
from upstream_elp.prepare.headers import Options, read_headers
from upstream_elp.prepare.report import Problem, Report, summarise

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
    content, fault = files.read_text(path)
    reader = csv.DictReader(io.StringIO(content, newline=""))
    table = Table(absent=[column for column in columns if column not in (reader.fieldnames or ())], fault=fault)
    for row in [] if table.absent else reader:
        lacking = [column for column in columns if not (row[column] or "").strip()]
        if lacking:
            table.gaps.append((reader.line_num, lacking))
        else:
            table.rows.append({column: row[column].strip() for column in columns})
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
        return [], [*problems, Problem("columns", name, sentence, False)]
    for line, lacking in table.gaps:
        problems.append(Problem("missing-value", name, f"{name} line {line} has no {', '.join(lacking)}.", False))
    if not table.rows and not table.gaps:
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


def path_problems(root: Path, tables: dict[str, list[dict[str, str]]]) -> list[Problem]:
    """Report audio that is missing or listed twice."""
    problems, first = [], {}
    for split, rows in tables.items():
        name = f"data/{split}_data.csv"
        for path in (row["path"] for row in rows):
            if path in first:
                sentence = f"{path} stands in {first[path]} and again in {name}."
                problems.append(Problem("duplicate", path, sentence, False))
            elif not (root / path).is_file():
                problems.append(Problem("missing-audio", path, f"{path} is missing, but {name} lists it.", False))
            first.setdefault(path, name)
    return problems


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
    report.problems += path_problems(root, tables) + speaker_problems(tables) + slot_problems(tables)
    missing = {problem.path for problem in report.problems if problem.kind == "missing-audio"}
    every = list(dict.fromkeys(row["path"] for rows in tables.values() for row in rows if row["path"] not in missing))
    headers = read_headers(root, every, cache=out / ".fluent-headers.jsonl", options=options)
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
