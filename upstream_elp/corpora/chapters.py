"""Chapters of LibriSpeech and its kin: folders of audio with one file of transcripts each."""

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
    """One utterance: its path below the corpus and its words; None where it has no transcript."""

    path: str
    text: str | None

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return stem(self.path)

    @property
    def speaker(self) -> str:
        """Who reads."""
        return speaker_of(self.path)


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
        silent: utterances that have a transcript and no audio, and their transcript files.
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


def rows_of(files: Iterable[str], tables: Mapping[str, Table]) -> Iterator[Utterance]:
    """Yield audio files as utterances, with the words that the tables of their folders give them."""
    for file in files:
        yield Utterance(file, tables[file.rpartition("/")[0]].texts.get(stem(file)))


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
            sentence = f"{file} is not where its name says; the layout is {form}."
            cause = f"{AUDIO} are not where their names say; the layout is {form}"
            found.problems.append(Problem("misplaced", file, sentence, cause=cause))
    found.silent += [(item, table.path) for item in sorted(table.texts.keys() - {stem(file) for file in audio})]


def table_problems(tables: Iterable[Table]) -> list[Problem]:
    """Report transcript files of another coding."""
    return [Problem("encoding", one.path, f"{one.path} {one.fault}.", False) for one in tables if one.fault]


def missing_audio(root: Path, silent: Iterable[tuple[str, str]]) -> list[Problem]:
    """Turn transcripts without audio into problems: the archive was not unpacked whole, or is of another format."""
    absent = {}
    for item, where in silent:
        sentence = f"{where} has a transcript of {item}, but {item}.flac is not in its folder."
        cause = "utterances have a transcript, but their folders lack the .flac file; unpack the corpus again"
        absent[place_of(item, where)] = Problem("missing-audio", where, sentence, False, cause)
    return absent_problems(root, absent)


def place_of(item: str, table: str) -> str:
    """Where the audio of an utterance should be that a transcript file names."""
    return f"{table.rpartition('/')[0]}/{item}{SUFFIX}"
