"""What a look at a corpus found: problems, remarks, figures and the tables written."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tabulate import tabulate

from upstream_elp.audio.headers import Header, Options, read_headers
from upstream_elp.audio.levels import sentence
from upstream_elp.base.problems import SHOWN_PER_KIND, Problem, cause_lines, problem_lines

__all__ = ["SHOWN_PER_KIND", "Problem", "Report", "Split", "summarise"]


@dataclass(frozen=True)
class Split:
    """Figures of one split: number of files, hours of audio, number of speakers."""

    name: str
    files: int
    hours: float
    speakers: int


@dataclass
class Report:
    """Everything that one run over a corpus found and wrote; ``audio`` is the number of files that were looked at."""

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
        """Read the headers of the corpus's audio files, and warn of samples far beyond full scale."""
        self.audio = len(files)
        headers = read_headers(self.root, files, cache=self.out / f".{self.corpus}-headers.jsonl", options=options)
        if loud := {file: header.peak for file, header in headers.items() if header.peak}:
            self.warnings.append(sentence(loud))
        return headers

    def blocked(self, *, skip_broken: bool) -> bool:
        """Return whether the problems forbid writing tables."""
        return any(not (skip_broken and problem.skippable) for problem in self.problems)

    def broken(self) -> set[str]:
        """Return the files that ``--skip-broken`` leaves out."""
        return {problem.path for problem in self.problems if problem.skippable}

    def left_out(self, *, skip_broken: bool) -> set[str]:
        """Return the files that tables do without."""
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
        """Return the report for a reader: causes, problems by kind, remarks, the final table, the files written."""
        lines = cause_lines(self.problems, audio=self.audio)
        lines += problem_lines(self.problems, rest=", which the report file holds")
        lines += [f"note: {text}" for text in self.warnings]
        rows = [(split.name, split.files, f"{split.hours:.3f}", split.speakers) for split in self.splits]
        lines += ["", tabulate(rows, headers=["split", "files", "hours", "speakers"], disable_numparse=True), ""]
        lines += [f"wrote {path}" for path in self.tables]
        return "\n".join(lines)


def summarise(name: str, files: Iterable[str], headers: dict[str, Header], speakers: Iterable[str]) -> Split:
    """Return the figures of a split.

    Args:
        name: name of the split.
        files: its audio files, keys of ``headers``; unreadable ones count as files of zero length.
        headers: what is known of each file.
        speakers: one speaker per file or any iterable of speakers; counted once each.
    """
    files = list(files)
    seconds = sum(headers[file].seconds for file in files if file in headers)
    return Split(name=name, files=len(files), hours=seconds / 3600, speakers=len(set(speakers)))
