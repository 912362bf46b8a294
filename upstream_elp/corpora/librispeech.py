"""LibriSpeech: layout, transcripts and the length tables of its splits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.audio.headers import Header, Options
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import locate, look
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks, files
from upstream_elp.corpora.listing import Report, summarise

SUFFIX = ".flac"

SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
SUPERB_SPLITS = ("train-clean-100", "dev-clean", "test-clean")
# Panayotov et al. 2015, table 1 (speakers); sentences of sclite's reports on whole dev and test sets (files)
OFFICIAL_SPEAKERS = dict(zip(SPLITS, (251, 921, 1166, 40, 33, 40, 33), strict=True))
OFFICIAL_FILES = {"dev-clean": 2703, "test-clean": 2620, "dev-other": 2864, "test-other": 2939}


@dataclass(frozen=True)
class Table:
    """One ``.trans.txt`` file.

    Attributes:
        path: where it is or should be, relative to the corpus root.
        texts: the words of each utterance.
        repeated: the utterances that have more than one line; the first one counts.
        fault: what is wrong with the file's coding, empty where nothing is.
        there: whether the file exists.
    """

    path: str
    texts: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    fault: str = ""
    there: bool = False


@dataclass
class Chapters:
    """What lies below one split's folder.

    Attributes:
        files: audio files that are where they should be, relative to the corpus root, sorted.
        tables: the transcripts of each folder with audio or transcripts.
        problems: what is wrong with folders, names, places and transcripts.
        silent: transcripts without audio, as ``utterance (transcript file)``.
        remarks: what is worth knowing.
        closed: folders that cannot be listed, and why.
    """

    files: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    silent: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)


def stem(file: str) -> str:
    """Return a file's name without folders and extension: the utterance."""
    return file.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def speaker_of(file: str) -> str:
    """Return the speaker of ``.../<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac``."""
    return stem(file).split("-", 1)[0]


def read_transcripts(path: Path) -> tuple[dict[str, str], list[str], str]:
    """Read a ``.trans.txt`` file: one utterance a line, its name, blanks or a tab, its words.

    Returns:
        The words of each utterance, a single space between them; the utterances that have more than one line (the first
        one counts); and what is wrong with the file's coding, empty where nothing is.
    """
    found: dict[str, str] = {}
    repeated = []
    content, fault = texts.read(path)
    for line in texts.lines(content):
        name, *words = line.split() or [""]
        if name in found:
            repeated.append(name)
        elif name:
            found[name] = " ".join(words)
    return found, repeated, fault


def read_tables(root: Path, folders: Iterable[str], *, closed: dict[str, str] | None = None) -> dict[str, Table]:
    """Read the ``<speaker>-<chapter>.trans.txt`` of chapters.

    Args:
        root: the corpus.
        folders: the chapters' folders, relative to it.
        closed: receives the folders that cannot be listed, and why; None makes them an error.
    """
    names = {folder: f"{folder}/{'-'.join(folder.split('/')[-2:])}.trans.txt" for folder in folders}
    found = locate(root, names.values(), closed=closed)
    return {folder: _read_table(root, name, found[name]) for folder, name in names.items()}


def _read_table(root: Path, name: str, actual: str | None) -> Table:
    return Table(actual, *read_transcripts(root / actual), there=True) if actual else Table(name)


def scan_chapters(root: Path, folder: Path, *, characters: frozenset[str] = checks.CHARACTERS) -> Chapters:
    """List the audio below ``folder``, chapter by chapter, with transcripts, and check names and texts.

    Args:
        root: the corpus; paths in the result are relative to it.
        folder: a split, which holds ``<speaker>/<chapter>/`` folders.
        characters: the dictionary of the transcripts, upper case.
    """
    tree = look(folder, root=root, suffix=(SUFFIX, ".trans.txt"))
    found = Chapters(closed=tree.closed, problems=checks.closed_problems(tree.closed))
    found.remarks = checks.again_remarks(tree.again)
    chapters: dict[str, list[str]] = {}
    for file in tree.files:
        members = chapters.setdefault(file.rpartition("/")[0], [])
        if file.lower().endswith(SUFFIX):
            members.append(file)
    found.tables = read_tables(root, chapters, closed=tree.closed)
    top = files.relative(folder, root).count("/") + 1
    for name in sorted(chapters, key=lambda name: name.split("/")):
        depth = name.count("/") + 1 - top
        _scan_chapter(found, found.tables[name], name, chapters[name], depth=depth, characters=characters)
    return found


def _scan_chapter(
    found: Chapters, table: Table, chapter: str, audio: list[str], *, depth: int, characters: frozenset[str]
) -> None:
    name = "-".join(chapter.split("/")[-2:])
    if table.fault:
        found.problems.append(Problem("encoding", table.path, f"{table.path} {table.fault}.", False))
    sentence = "{} has more than one line for {}; keep one."
    found.problems += [
        Problem("duplicate", table.path, sentence.format(table.path, item), False) for item in table.repeated
    ]
    for file in audio:
        if depth == 2 and (stem(file).startswith(f"{name}-") or stem(file) in table.texts):
            found.files.append(file)
            text = table.texts.get(stem(file))
            found.problems += checks.transcript_problems(file, text, where=table.path, characters=characters)
        else:
            form = "<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
            sentence = f"{file} is not where its name says; the layout is {form}."
            cause = f"{AUDIO} are not where their names say; the layout is {form}"
            found.problems.append(Problem("misplaced", file, sentence, cause=cause))
    found.silent += [(item, table.path) for item in sorted(table.texts.keys() - {stem(file) for file in audio})]


def missing_audio(root: Path, silent: Iterable[tuple[str, str]]) -> list[Problem]:
    """Turn transcripts without audio into problems: the archive was not unpacked whole, or is of another format."""
    absent = {}
    for item, where in silent:
        sentence = f"{where} has a transcript of {item}, but {item}.flac is not in its folder."
        cause = "utterances have a transcript, but their folders lack the .flac file; unpack the corpus again"
        absent[f"{where.rpartition('/')[0]}/{item}{SUFFIX}"] = Problem("missing-audio", where, sentence, False, cause)
    return absent_problems(root, absent)


def pick_splits(root: Path, wanted: Iterable[str]) -> list[str]:
    """Return the splits to prepare: those asked for, or all that are there.

    Raises:
        ElpError: where a split that was asked for is not there.
    """
    there = [split for split in SPLITS if (root / split).is_dir()]
    wanted = list(dict.fromkeys(wanted))
    absent = [split for split in wanted if split not in there]
    if absent:
        raise ElpError(f"{root}: has no split {', '.join(absent)}; the splits there are: {', '.join(there) or 'none'}")
    return wanted or there


def prepare(root: Path, out: Path, *, splits: Iterable[str] = (), options: Options | None = None) -> Report:
    """Check splits of LibriSpeech and write ``len_for_bucket/<split>.csv``.

    Args:
        root: folder that holds ``train-clean-100`` and so on.
        out: folder for the tables.
        splits: the splits; empty for all that are there.
        options: how to read.

    Raises:
        ElpError: where ``root`` is not LibriSpeech.
    """
    options = options or Options()
    files.check_root(root, holds=SPLITS, unpacked="LibriSpeech")
    report = Report("librispeech", root, files.open_out(out))
    chapters = {split: scan_chapters(root, root / split) for split in pick_splits(root, splits)}
    every = [file for found in chapters.values() for file in found.files]
    headers = report.read(every, options)
    for split, found in chapters.items():
        report.problems += found.problems + missing_audio(root, found.silent)
        if not (found.files or found.closed or found.silent):
            report.problems.append(Problem("layout", split, f"{split} holds no .flac file.", False))
    report.problems += [problem for file in every for problem in checks.audio_problems(file, headers[file])]
    report.problems += checks.duplicate_problems(every)
    broken = report.left_out(skip_broken=options.skip_broken)
    tables = {split: [file for file in found.files if file not in broken] for split, found in chapters.items()}
    for split, members in tables.items():
        report.splits.append(summarise(split, members, headers, map(speaker_of, members)))
    report.warnings += [remark for found in chapters.values() for remark in found.remarks]
    report.warnings += _remarks(report, {split: set(map(speaker_of, found.files)) for split, found in chapters.items()})
    write_tables(report, tables, headers, options=options)
    return report


def _remarks(report: Report, speakers: dict[str, set[str]]) -> list[str]:
    counts = [
        (f"files of {split.name}", split.files, OFFICIAL_FILES[split.name])
        for split in report.splits
        if split.name in OFFICIAL_FILES
    ]
    counts += [(f"speakers of {split.name}", split.speakers, OFFICIAL_SPEAKERS[split.name]) for split in report.splits]
    remarks = checks.count_warnings(counts)
    for a, b, shared in checks.shared_speakers(speakers):
        count = counted(len(shared), "speaker")
        remarks.append(f"{a} and {b} share {count} (such as {shared[0]}); the official splits share none.")
    absent = [split for split in SUPERB_SPLITS if not (report.root / split).is_dir()]
    if absent:
        remarks.append(f"SUPERB's ASR also needs {', '.join(absent)}.")
    return remarks


def write_tables(report: Report, tables: dict[str, list[str]], headers: dict[str, Header], *, options: Options) -> None:
    """Write one length table per name, unless problems forbid it.

    Args:
        report: receives the paths; its problems decide.
        tables: files per table, without those that are left out.
        headers: headers of the files.
        options: ``skip_broken`` passes over what leaving files out has cured.
    """
    if report.blocked(skip_broken=options.skip_broken):
        return
    for name, members in tables.items():
        lengths = {file: headers[file].samples for file in members}
        report.tables.append(files.write_length_table(report.out / "len_for_bucket" / f"{name}.csv", lengths))
