"""The survey of a task's corpus before training: the files of its splits, counts, and a list of all problems.

Each task's ``survey.py`` lists files and compares tables with each other (``survey(...)``). :func:`measure` reads the
headers of these files, or all their samples, through one index per corpus. ``elp check`` and the start of ``elp run``
use both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from upstream_elp.audio.headers import Header, Options, index_path, read_headers
from upstream_elp.audio.levels import LevelWarning, sentence
from upstream_elp.audio.reading import MIN_SAMPLES
from upstream_elp.base.errors import counted
from upstream_elp.base.problems import AUDIO, AUDIO_KINDS, HARMLESS, Problem, blocking, cause_lines, problem_lines
from upstream_elp.corpora import checks
from upstream_elp.corpora.preparation import hours
from upstream_elp.corpora.reading import Reading

LONG_SECONDS = 60


class Need(NamedTuple):
    """How many samples of a file a head needs, what for, and the kind of problem if there are fewer."""

    samples: int
    why: str
    kind: str = "head"


@dataclass
class Part:
    """The files of one split.

    Attributes:
        name: the split's full name.
        files: its audio files, relative to the corpus root.
        speakers: the speaker of each file.
        classes: the class of each file; empty for a task without classes.
        answers: what else is to be found, such as transcripts or trials; runs with other ones are not the same.
    """

    name: str
    files: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass
class Survey:
    """The contents of a task's tables and folders.

    Attributes:
        task: the task's name.
        root: the corpus.
        parts: the splits.
        problems: what is wrong, each in one sentence that names the file.
        remarks: what is worth knowing.
        warnings: what would not stop a training, but spoil it.
        needs: files of which the head needs more samples than the backbone.
        resample: whether other sample rates are converted.
        mix: whether several channels are accepted.
        tolerated: kinds of problems that do not stop the task from running.
        missing: files known to be missing.
        deeper: additional checks if all samples are decoded; called with the survey and the number of threads.
    """

    task: str
    root: Path
    parts: list[Part] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    needs: dict[str, Need] = field(default_factory=dict)
    resample: bool = False
    mix: bool = False
    tolerated: frozenset[str] = HARMLESS
    missing: set[str] = field(default_factory=set)
    deeper: Callable[[Survey, int], None] | None = None

    def add(self, reading: Reading) -> None:
        """Add the findings of a corpus reader, except for its rows."""
        self.problems += reading.problems
        self.remarks += reading.remarks
        self.missing |= reading.gone

    def blocking(self, *, skip_bad_files: bool = False) -> list[Problem]:
        """Return the problems that prevent a run."""
        return blocking(self.problems, passed=self.tolerated | (AUDIO_KINDS if skip_bad_files else frozenset()))


@dataclass(frozen=True)
class Count:
    """Figures of one split; ``classes`` is 0 for a task without classes."""

    split: str
    utterances: int
    hours: float
    speakers: int
    classes: int

    def __str__(self) -> str:
        counts = [counted(self.utterances, "utterance"), f"{self.hours:.2f} h", counted(self.speakers, "speaker")]
        if self.classes:
            counts.append(counted(self.classes, "class", "classes"))
        return f"{self.split}: {', '.join(counts)}"


@dataclass
class Findings:
    """A survey whose audio was checked; ``audio`` is the number of files."""

    survey: Survey
    counts: list[Count]
    audio: int = 0

    def to_dict(self) -> dict:
        """Return everything as plain values for JSON."""
        found = self.survey
        return {
            "task": found.task,
            "root": str(found.root),
            "ok": not found.problems,
            "splits": [asdict(count) for count in self.counts],
            "problems": [{"kind": one.kind, "path": one.path, "text": one.text} for one in found.problems],
            "remarks": found.remarks,
            "warnings": found.warnings,
        }

    def to_text(self, *, shown: int, rest: str = "") -> str:
        """Format causes, problems by kind, warnings, remarks, and the table of splits for a reader.

        Args:
            shown: how many problems of each kind to show.
            rest: where to find the others.
        """
        lines = cause_lines(self.survey.problems, audio=self.audio)
        lines += problem_lines(self.survey.problems, shown=shown, rest=rest)
        lines += [f"WARNING: {text}" for text in self.survey.warnings]
        lines += [f"note: {text}" for text in self.survey.remarks]
        rows = [(one.split, one.utterances, f"{one.hours:.3f}", one.speakers, one.classes or "") for one in self.counts]
        table = tabulate(rows, headers=["split", "utterances", "hours", "speakers", "classes"], disable_numparse=True)
        return "\n".join([*lines, "", table])


def measure(survey: Survey, options: Options, *, min_samples: int = MIN_SAMPLES) -> Findings:
    """Check the audio: headers through the corpus' index, or every sample if ``options`` ask for it.

    Args:
        survey: the contents of tables and folders; problems with the audio are added.
        options: how to read.
        min_samples: the shortest wave that the upstream accepts.
    """
    every = [file for part in survey.parts for file in part.files if file not in survey.missing]
    every = list(dict.fromkeys(every))
    headers = read_headers(
        survey.root, every, cache=index_path(survey.root), options=options, description=f"audio of {survey.task}"
    )
    for file in every:
        survey.problems += _audio_problems(survey, file, headers[file], min_samples)
    if options.decode and survey.deeper is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LevelWarning)  # already reported
            survey.deeper(survey, options.jobs)
    if loud := {file: headers[file].peak for file in every if headers[file].peak}:
        survey.warnings.append(sentence(loud))
    long = [file for file in every if headers[file].seconds > LONG_SECONDS]
    if long:
        what = counted(len(long), "file is", "files are")
        survey.remarks.append(
            f"{what} longer than {LONG_SECONDS} s (such as {long[0]}, {headers[long[0]].seconds:.0f} s);"
            " a batch is as long as its longest utterance, so it may need a lot of memory"
        )
    return Findings(survey, [_count(part, headers) for part in survey.parts], audio=len(every))


def _audio_problems(survey: Survey, file: str, header: Header, min_samples: int) -> list[Problem]:
    """Return the problems of one file under the task's rules."""
    header = checks.converted(header) if survey.resample else header
    found = checks.audio_problems(file, header, min_samples=min_samples, mix=survey.mix)
    need = survey.needs.get(file)
    if not found and need is not None and header.samples < need.samples:
        fault = f"{file} has {header.samples} samples, fewer than the {need.samples} that {need.why}."
        found.append(Problem(need.kind, file, fault, cause=f"{AUDIO} have fewer samples than the head needs"))
    return found


def _count(part: Part, headers: Mapping[str, Header]) -> Count:
    classes = len(set(part.classes))
    return Count(part.name, len(part.files), hours(part.files, headers), len(set(part.speakers)), classes)
