"""Fluent Speech Commands: the three CSV tables, their audio, speakers and slot values."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.audio.headers import Options
from upstream_elp.base import texts
from upstream_elp.base.errors import counted
from upstream_elp.base.files import write_json
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.description import Corpus, PrepareCommand
from upstream_elp.corpora.preparation import Report, begin, summarise
from upstream_elp.corpora.reading import Reading

SPLITS = ("train", "valid", "test")
SLOTS = ("action", "object", "location")
COLUMNS = ("path", "speakerId", "transcription", *SLOTS)
OFFICIAL = {"train": 23_132, "valid": 3_118, "test": 3_793}
OFFICIAL_SLOTS = {"action": 6, "object": 14, "location": 4}
CORPUS = Corpus(
    name="fluent_speech_commands_dataset",
    folder="fluent_speech_commands_dataset",
    source="https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research",
    layout="wavs/speakers/<speaker>/<file>.wav and data/{train,valid,test}_data.csv",
    signs=("data/train_data.csv",),
    holds=("data", "wavs"),
    keys=("root", "file_path"),
    command=PrepareCommand(
        name="fluent-speech-commands",
        summary="Fluent Speech Commands' tables and audio.",
        text="""Check Fluent Speech Commands in ROOT (with data and wavs): tables, audio, speakers and slot values.

        Tasks read the corpus' own tables; OUT/slots.json only lists the slot values in class order.
        """,
    ),
)


@dataclass(frozen=True)
class Command:
    """One utterance: its path below the corpus root, the values of the three slots, and its speaker."""

    path: str
    slots: tuple[str, str, str]
    speaker: str = ""

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return Path(self.path).stem


@dataclass
class Tables(Reading[Command]):
    """The contents of the corpus' tables.

    Attributes:
        of: the rows of each table, with each ``path`` as on disk.
    """

    of: dict[str, list[Command]] = field(default_factory=dict)


def table_name(split: str) -> str:
    """Return the path of a split's table, relative to the corpus."""
    return f"data/{split}_data.csv"


def read_table(path: Path, *, name: str) -> tuple[list[Command], list[Problem]]:
    """Read one table.

    Args:
        path: ``data/<split>_data.csv``.
        name: the table's name for messages.

    Returns:
        Its rows, except those that lack a value, and its problems.
    """
    if not path.is_file():
        return [], [Problem("layout", name, f"{name} is missing.", False)]
    content, fault = texts.read(path)
    rows: list[Command] = []
    problems: list[Problem] = []
    reader = csv.DictReader(io.StringIO(content, newline=""))
    try:
        absent = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        for row in () if absent else reader:
            lacking = [column for column in COLUMNS if not (row[column] or "").strip()]
            if lacking:
                problems.append(_gap(name, reader.line_num, lacking))
            else:
                audio, speaker, _, *slots = (row[column].strip() for column in COLUMNS)
                rows.append(Command(audio, tuple(slots), speaker))
    except csv.Error as error:
        fault = fault or f"line {reader.line_num} cannot be read as CSV ({error}); save the table again"
        absent = []
    coding = [Problem("encoding", name, f"{name} {fault}.", False)] if fault else []
    if absent:
        sentence = f"{name} lacks the columns {', '.join(absent)}; it must have {', '.join(COLUMNS)}."
        return [], coding or [Problem("columns", name, sentence, False)]
    if not (rows or coding or problems):
        problems.append(Problem("layout", name, f"{name} has no rows.", False))
    return rows, coding + problems


def _gap(name: str, line: int, lacking: Iterable[str]) -> Problem:
    what = ", ".join(lacking)
    cause = f"lines of {name} have no {what}"
    return Problem("missing-value", name, f"{name} line {line} has no {what}.", False, cause)


def read(root: Path, splits: Iterable[str] = SPLITS) -> Tables:
    """Read tables and find their audio: the only reader of this corpus, for all commands and tasks.

    Args:
        root: the corpus.
        splits: the tables; train is always included, as it defines the classes.

    Returns:
        The rows of all tables in order, including those whose audio is missing.
    """
    found, tables = Tables(), {}
    wanted = {"train", *splits}
    for split in (split for split in SPLITS if split in wanted):
        name = table_name(split)
        tables[split], problems = read_table(root / name, name=name)
        found.problems += problems
    _place_audio(found, root, tables)
    found.problems += speaker_problems(found.of)
    found.problems += slot_problems(found.of) if found.of["train"] else []
    return found


def _place_audio(found: Tables, root: Path, tables: Mapping[str, Sequence[Command]]) -> None:
    """Find the audio of the tables."""
    closed: dict[str, str] = {}
    there = locate(root, (row.path for rows in tables.values() for row in rows), closed=closed)
    found.gone = {path for path, actual in there.items() if actual is None or path.rpartition("/")[0] in closed}
    first: dict[str, str] = {}
    absent = {}
    for split, rows in tables.items():
        name = table_name(split)
        found.of[split] = [_on_disk(row, there[row.path]) for row in rows]
        for path in (row.path for row in found.of[split]):
            if path in first:
                sentence = f"{path} appears in {first[path]} and again in {name}."
                found.problems.append(Problem("duplicate", path, sentence, False, "files are listed twice"))
            elif path in found.gone:
                sentence, cause = f"{path} is missing, but {name} lists it.", f"files that {name} lists are missing"
                absent[path] = Problem("missing-audio", path, sentence, False, cause)
            first.setdefault(path, name)
    found.rows = [row for rows in found.of.values() for row in rows]
    found.problems += checks.closed_problems(closed) + absent_problems(root, absent)


def _on_disk(row: Command, name: str | None) -> Command:
    return row if name in (row.path, None) else replace(row, path=name)


def slot_values(rows: Iterable[Command], *, order: str = "appearance") -> list[list[str]]:
    """Return the values of each slot; the index of a value is its class.

    Args:
        rows: the training utterances.
        order: ``appearance`` numbers values as S3PRL does (downstream/fluent_commands/expert.py:53), so that its
            checkpoints fit; ``sorted`` does not depend on the order of the rows.
    """
    columns = [list(dict.fromkeys(column)) for column in zip(*(row.slots for row in rows), strict=True)]
    columns = columns or [[] for _ in SLOTS]
    return [sorted(column) for column in columns] if order == "sorted" else columns


def slot_problems(tables: Mapping[str, Sequence[Command]]) -> list[Problem]:
    """Report values that do not occur in training; stock S3PRL fails on them in the middle of a run."""
    known = slot_values(tables["train"])
    problems = []
    for split in (split for split in tables if split != "train"):
        for place, slot in enumerate(SLOTS):
            counts = Counter(row.slots[place] for row in tables[split] if row.slots[place] not in known[place])
            for value, count in counts.items():
                sentence = (
                    f"{table_name(split)} has the {slot} {value!r} in {counted(count, 'row')}, "
                    f"but train has no such {slot}."
                )
                problems.append(Problem("slot-value", table_name(split), sentence, False))
    return problems


def speaker_problems(tables: Mapping[str, Sequence[Command]]) -> list[Problem]:
    """Report speakers that appear in more than one table."""
    speakers = {split: {row.speaker for row in rows} for split, rows in tables.items()}
    return [
        Problem(
            "speakers",
            table_name(b),
            f"{table_name(b)} shares {counted(len(shared), 'speaker')} with {table_name(a)} (such as {shared[0]}).",
            False,
        )
        for a, b, shared in checks.shared_speakers(speakers)
    ]


def prepare(root: Path, out: Path, *, options: Options | None = None) -> Report:
    """Check Fluent Speech Commands and write its class indices to ``slots.json``.

    Args:
        root: folder that contains ``data`` and ``wavs``.
        out: folder for the report.
        options: how to read.

    Raises:
        ElpError: ``root`` is not Fluent Speech Commands.
    """
    report = begin(CORPUS, root, out)
    found = read(root)
    report.problems += found.problems
    every = list(dict.fromkeys(row.path for row in found.present))
    headers = report.read(every, options or Options())
    report.check_audio(headers)
    for split, rows in found.of.items():
        paths, speakers = [row.path for row in rows], [row.speaker for row in rows]
        report.splits.append(summarise(split, paths, headers, speakers))
    slots = dict(zip(SLOTS, slot_values(found.of["train"]), strict=True))
    counts = [(f"rows of {split}", len(rows), OFFICIAL[split]) for split, rows in found.of.items()]
    counts += [(f"values of {slot}", len(values), OFFICIAL_SLOTS[slot]) for slot, values in slots.items()]
    report.warnings += checks.count_warnings(counts)
    report.details["slots"] = slots
    if not report.blocked(skip_broken=False):
        report.tables.append(write_json(out / "slots.json", slots))
    return report
