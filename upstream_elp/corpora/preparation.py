"""``elp prepare``: the report on a corpus, and the tables that it writes."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tabulate import tabulate

from upstream_elp.audio.headers import Header, Options, read_headers
from upstream_elp.audio.levels import sentence
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import cache_dir, write_text
from upstream_elp.base.problems import Problem, cause_lines, problem_lines
from upstream_elp.corpora import checks
from upstream_elp.corpora.description import Corpus


@dataclass(frozen=True)
class Split:
    """Figures of one split: number of files, hours of audio, number of speakers."""

    name: str
    files: int
    hours: float
    speakers: int


@dataclass
class Report:
    """Everything that was found in a corpus and written; ``audio`` is the number of files that were checked."""

    corpus: str
    root: Path
    out: Path
    splits: list[Split] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    details: dict = field(default_factory=dict)
    audio: int = 0

    def read(self, files: Sequence[str], options: Options) -> dict[str, Header]:
        """Read the headers of the corpus' audio files, and warn of samples far beyond full scale."""
        self.audio = len(files)
        headers = read_headers(self.root, files, cache=self.out / f".{self.corpus}-headers.jsonl", options=options)
        if loud := {file: header.peak for file, header in headers.items() if header.peak}:
            self.warnings.append(sentence(loud))
        return headers

    def check_audio(self, headers: Mapping[str, Header]) -> None:
        """Add the problems of single files under S3PRL's rules."""
        self.problems += [problem for file, one in headers.items() for problem in checks.audio_problems(file, one)]

    def blocked(self, *, skip_broken: bool) -> bool:
        """Return whether the problems prevent writing tables."""
        return any(not (skip_broken and problem.skippable) for problem in self.problems)

    def broken(self) -> set[str]:
        """Return the files that ``--skip-broken`` skips."""
        return {problem.path for problem in self.problems if problem.skippable}

    def skipped(self, *, skip_broken: bool) -> set[str]:
        """Return the files that tables omit."""
        return self.broken() if skip_broken else set()

    def to_dict(self, *, skip_broken: bool = False) -> dict:
        """Return the report as plain values for JSON."""
        return {
            "corpus": self.corpus,
            "root": str(self.root),
            "out": str(self.out),
            "ok": not self.blocked(skip_broken=skip_broken),
            "splits": [asdict(split) for split in self.splits],
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": self.warnings,
            "tables": [str(path) for path in self.tables],
            "details": self.details,
        }

    def to_text(self) -> str:
        """Format the report for a reader: causes, problems by kind, remarks, the final table, the written files."""
        lines = cause_lines(self.problems, audio=self.audio)
        lines += problem_lines(self.problems, rest=" in the report file")
        lines += [f"note: {text}" for text in self.warnings]
        rows = [(split.name, split.files, f"{split.hours:.3f}", split.speakers) for split in self.splits]
        lines += ["", tabulate(rows, headers=["split", "files", "hours", "speakers"], disable_numparse=True), ""]
        lines += [f"wrote {path}" for path in self.tables]
        return "\n".join(lines)


def summarise(name: str, files: Iterable[str], headers: Mapping[str, Header], speakers: Iterable[str]) -> Split:
    """Return the figures of a split.

    Args:
        name: name of the split.
        files: its audio files, keys of ``headers``; unreadable ones count as files of zero length.
        headers: the header of each file.
        speakers: speakers, each counted once.
    """
    files = list(files)
    return Split(name=name, files=len(files), hours=hours(files, headers), speakers=len(set(speakers)))


def hours(files: Iterable[str], headers: Mapping[str, Header]) -> float:
    """Return the hours of audio, as far as headers are known."""
    return sum(headers[file].seconds for file in files if file in headers) / 3600


def default_out(command: str, root: Path) -> Path:
    """Return the default folder for a corpus' tables, below :func:`upstream_elp.base.files.cache_dir`.

    Its name contains a hash of the root, so that two copies of a corpus never share tables.
    """
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
    return cache_dir() / "prepare" / f"{command}-{key}"


def begin(corpus: Corpus, root: Path, out: Path) -> Report:
    """Check the given folder of a corpus and start a report on it.

    Args:
        corpus: the corpus, which must have a command of ``elp prepare``.
        root: the folder from the user.
        out: folder for the tables; created if missing.

    Raises:
        ElpError: ``root`` is not this corpus, or ``out`` cannot be created or written to.
    """
    corpus.check_given(root)
    return Report(corpus.command.name, root, open_out(out))


def open_out(out: Path) -> Path:
    """Create the folder for the tables.

    Raises:
        ElpError: the folder cannot be created or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElpError(
            f"the folder for the tables, {out}, cannot be created ({error.strerror}); choose another OUT"
        ) from error
    if not os.access(out, os.W_OK):
        raise ElpError(f"the folder for the tables, {out}, is not writable; choose another OUT")
    return out


def write_length_table(path: Path, lengths: dict[str, int]) -> Path:
    """Write a table of utterance lengths, sorted by decreasing length, then by path.

    The columns are those of stock ``asr``'s ``bucket_file`` (s3prl/downstream/asr/dataset.py:46-57): an index,
    ``file_path`` relative to the corpus, ``length`` in samples, and ``label``, which is empty.

    Args:
        path: the CSV file.
        lengths: samples per file.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["", "file_path", "length", "label"])
    ordered = sorted(lengths.items(), key=lambda item: (-item[1], item[0]))
    writer.writerows((row, file, length, "") for row, (file, length) in enumerate(ordered))
    return write_text(path, stream.getvalue())


def write_length_tables(
    report: Report, tables: Mapping[str, list[str]], headers: Mapping[str, Header], *, options: Options
) -> None:
    """Write one length table per name, unless problems prevent it.

    Args:
        report: receives the paths; nothing is written if it is blocked by problems.
        tables: files per table, without the skipped ones.
        headers: headers of the files.
        options: ``skip_broken`` ignores problems that are solved by skipping files.
    """
    if report.blocked(skip_broken=options.skip_broken):
        return
    for name, members in tables.items():
        lengths = {file: headers[file].samples for file in members}
        report.tables.append(write_length_table(report.out / "len_for_bucket" / f"{name}.csv", lengths))
