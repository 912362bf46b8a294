"""LibriSpeech: layout, transcripts and the length tables of its splits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.errors import ElpError, counted
from upstream_elp.prepare import checks, files
from upstream_elp.prepare.headers import Header, Options, read_headers
from upstream_elp.prepare.report import Problem, Report, summarise

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


@dataclass
class Chapters:
    """What lies below one split's folder.

    Attributes:
        files: audio files, relative to the corpus root, sorted.
        texts: transcript of each utterance that has one.
        problems: what is wrong with names, places and transcripts.
        silent: transcripts without audio, as ``utterance (transcript file)``.
    """

    files: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    silent: list[tuple[str, str]] = field(default_factory=list)


def stem(file: str) -> str:
    """Return a file's name without folders and extension: the utterance."""
    return file.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def speaker_of(file: str) -> str:
    """Return the speaker of ``.../<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac``."""
    return stem(file).split("-", 1)[0]


def read_transcripts(path: Path) -> tuple[dict[str, str], list[str], str]:
    """Read a ``.trans.txt`` file: one utterance a line, its name, a space, its words.

    Returns:
        The words of each utterance; the utterances that have more than one line (the first one counts); and what is
        wrong with the file's coding, empty where nothing is.
    """
    texts: dict[str, str] = {}
    repeated = []
    content, fault = files.read_text(path)
    for line in content.splitlines():
        name, _, words = line.strip().partition(" ")
        if name in texts:
            repeated.append(name)
        elif name:
            texts[name] = words.strip()
    return texts, repeated, fault


def scan_chapters(root: Path, folder: Path, *, characters: frozenset[str] = checks.CHARACTERS) -> Chapters:
    """List the audio below ``folder``, chapter by chapter, with transcripts, and check names and texts.

    Args:
        root: the corpus; paths in the result are relative to it.
        folder: a split, which holds ``<speaker>/<chapter>/`` folders.
        characters: the dictionary of the transcripts, upper case.
    """
    found = Chapters()
    chapters: dict[str, list[str]] = {}
    for file in files.list_files(folder, suffix=(".flac", ".trans.txt"), root=root):
        members = chapters.setdefault(file.rpartition("/")[0], [])
        if file.endswith(".flac"):
            members.append(file)
    for name in sorted(chapters, key=lambda name: name.split("/")):
        chapter = root / name
        depth = len(chapter.relative_to(folder).parts)
        _scan_chapter(found, root, chapter, chapters[name], depth=depth, characters=characters)
    return found


def _scan_chapter(
    found: Chapters, root: Path, chapter: Path, audio: list[str], *, depth: int, characters: frozenset[str]
) -> None:
    name = f"{chapter.parent.name}-{chapter.name}"
    table = chapter / f"{name}.trans.txt"
    where = files.relative(table, root)
    texts: dict[str, str] = {}
    if table.is_file():
        texts, repeated, fault = read_transcripts(table)
        if fault:
            found.problems.append(Problem("encoding", where, f"{where} {fault}.", False))
        sentence = "{} has more than one line for {}; keep one."
        found.problems += [Problem("duplicate", where, sentence.format(where, item), False) for item in repeated]
    for file in audio:
        found.files.append(file)
        if depth != 2 or not stem(file).startswith(f"{name}-"):
            form = "<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
            sentence = f"{file} is not where its name says; the layout is {form}."
            found.problems.append(Problem("misplaced", file, sentence))
        else:
            text = texts.get(stem(file))
            found.problems += checks.transcript_problems(file, text, where=where, characters=characters)
    found.texts.update(texts)
    found.silent += [(item, where) for item in sorted(set(texts) - {stem(file) for file in audio})]


def missing_audio(silent: Iterable[tuple[str, str]]) -> list[Problem]:
    """Turn transcripts without audio into problems: the archive was not unpacked whole."""
    return [
        Problem("missing-audio", where, f"{where} has a transcript of {item}, but {item}.flac is not beside it.", False)
        for item, where in silent
    ]


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
    headers = read_headers(root, every, cache=out / ".librispeech-headers.jsonl", options=options)
    for split, found in chapters.items():
        report.problems += found.problems + missing_audio(found.silent)
        if not found.files:
            report.problems.append(Problem("layout", split, f"{split} holds no .flac file.", False))
    report.problems += [problem for file in every for problem in checks.audio_problems(file, headers[file])]
    report.problems += checks.duplicate_problems(every)
    broken = report.left_out(skip_broken=options.skip_broken)
    tables = {split: [file for file in found.files if file not in broken] for split, found in chapters.items()}
    for split, members in tables.items():
        report.splits.append(summarise(split, members, headers, map(speaker_of, members)))
    report.warnings = _remarks(report, {split: set(map(speaker_of, found.files)) for split, found in chapters.items()})
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
