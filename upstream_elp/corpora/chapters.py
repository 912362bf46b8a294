"""Chapters of LibriSpeech and similar corpora: folders of audio, each with one file of transcripts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.base import texts
from upstream_elp.base.folders import locate, look
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.reading import stem

SUFFIX = ".flac"


@dataclass(frozen=True)
class Utterance:
    """One utterance: its path below the corpus root and its words, None if it has no transcript."""

    path: str
    text: str | None

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return stem(self.path)

    @property
    def speaker(self) -> str:
        """The reader."""
        return speaker_of(self.path)


@dataclass(frozen=True)
class Table:
    """One ``.trans.txt`` file.

    Attributes:
        path: its actual or expected path, relative to the corpus root.
        texts: the words of each utterance.
        repeated: the utterances with more than one line; the first one counts.
        fault: what is wrong with the file's encoding, or an empty string.
        there: whether the file exists.
    """

    path: str
    texts: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    fault: str = ""
    there: bool = False


@dataclass
class Chapters:
    """The contents of a split's folder.

    Attributes:
        files: audio files in the right place, relative to the corpus root, sorted.
        tables: the transcripts of each folder with audio or transcripts.
        problems: problems with folders, names, places and transcripts.
        silent: utterances with a transcript but no audio, and their transcript files.
        remarks: what is worth knowing.
        closed: folders that cannot be listed, and why.
    """

    files: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    silent: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)


def speaker_of(file: str) -> str:
    """Return the speaker of ``.../<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac``."""
    return stem(file).split("-", 1)[0]


def read_transcripts(path: Path) -> tuple[dict[str, str], list[str], str]:
    """Read a ``.trans.txt`` file, in which each line is the name of an utterance, spaces or a tab, and its words.

    Returns:
        The words of each utterance, separated by single spaces; the utterances with more than one line (the first one
        counts); and what is wrong with the file's encoding, or an empty string.
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
    """Read the ``<speaker>-<chapter>.trans.txt`` files of chapters.

    Args:
        root: the corpus.
        folders: the chapters' folders, relative to it.
        closed: receives the folders that cannot be listed, and why. If None, they are an error.
    """
    names = {folder: f"{folder}/{'-'.join(folder.split('/')[-2:])}.trans.txt" for folder in folders}
    found = locate(root, names.values(), closed=closed)
    return {folder: _read_table(root, name, found[name]) for folder, name in names.items()}


def _read_table(root: Path, name: str, actual: str | None) -> Table:
    return Table(actual, *read_transcripts(root / actual), there=True) if actual else Table(name)


def rows_of(files: Iterable[str], tables: Mapping[str, Table]) -> Iterator[Utterance]:
    """Yield audio files as utterances, with their words from the tables of their folders."""
    for file in files:
        yield Utterance(file, tables[file.rpartition("/")[0]].texts.get(stem(file)))


def scan_chapters(root: Path, folder: Path, *, characters: frozenset[str] = checks.CHARACTERS) -> Chapters:
    """List the audio and transcripts below ``folder``, chapter by chapter, and check names and texts.

    Args:
        root: the corpus; paths in the result are relative to it.
        folder: a split, which contains ``<speaker>/<chapter>/`` folders.
        characters: the dictionary of the transcripts, in upper case.
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
    top = folder.relative_to(root).as_posix().count("/") + 1
    for name in sorted(chapters, key=lambda name: name.split("/")):
        depth = name.count("/") + 1 - top
        _scan_chapter(found, found.tables[name], name, chapters[name], depth=depth, characters=characters)
    return found


def _scan_chapter(
    found: Chapters, table: Table, chapter: str, audio: list[str], *, depth: int, characters: frozenset[str]
) -> None:
    name = "-".join(chapter.split("/")[-2:])
    found.problems += table_problems([table])
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
            sentence = f"{file} is not in the folder that its name says; the layout is {form}."
            cause = f"{AUDIO} are not in the folders that their names say; the layout is {form}"
            found.problems.append(Problem("misplaced", file, sentence, cause=cause))
    found.silent += [(item, table.path) for item in sorted(table.texts.keys() - {stem(file) for file in audio})]


def table_problems(tables: Iterable[Table]) -> list[Problem]:
    """Report transcript files with a wrong encoding."""
    return [Problem("encoding", one.path, f"{one.path} {one.fault}.", False) for one in tables if one.fault]


def missing_audio(root: Path, silent: Iterable[tuple[str, str]]) -> list[Problem]:
    """Report transcripts without audio: the archive is not completely unpacked, or has another format."""
    absent = {}
    for item, where in silent:
        sentence = f"{where} has a transcript of {item}, but {item}.flac is not in its folder."
        cause = "utterances have a transcript, but their folders lack the .flac file; unpack the corpus again"
        absent[place_of(item, where)] = Problem("missing-audio", where, sentence, False, cause)
    return absent_problems(root, absent)


def place_of(item: str, table: str) -> str:
    """Return where the audio of an utterance in a transcript file should be."""
    return f"{table.rpartition('/')[0]}/{item}{SUFFIX}"
