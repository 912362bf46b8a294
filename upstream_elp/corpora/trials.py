"""Trial lists of VoxCeleb1: pairs of test utterances, and whether both have the same speaker."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from upstream_elp.audio.formats import absent_problems
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem

AUDIO_SUFFIXES = (".wav", ".flac")
_KALDI_NAME = re.compile(r"^(id\d{5})-(.+)-(\d{5})$")
LABELS = {"1": 1, "0": 0, "target": 1, "nontarget": 0}
"""How lists write that both utterances of a trial have the same speaker, or not."""


class Trial(NamedTuple):
    """Two utterances, ``speaker/video/utterance.wav``, and whether both have the same speaker (1) or not (0)."""

    label: int
    first: str
    second: str

    @property
    def name(self) -> str:
        """The pair in SUPERB's submission files: ``id-vid-utt_id-vid-utt``."""
        return f"{utterance_name(self.first)}_{utterance_name(self.second)}"

    def __str__(self) -> str:
        return f"{self.label} {self.first} {self.second}"


def utterance_name(path: str) -> str:
    """Convert ``id/vid/utt.wav`` to ``id-vid-utt``."""
    return "-".join(PurePosixPath(path).with_suffix("").parts[-3:])


def utterances(trials: Iterable[Trial]) -> list[str]:
    """Return all utterances of trials, each once, sorted."""
    return sorted({name for trial in trials for name in (trial.first, trial.second)})


@dataclass
class TrialList:
    """A trial list as read.

    Attributes:
        trials: its trials.
        bad_lines: number and text of each line that is not a trial.
        fault: what is wrong with the file's encoding, or an empty string.
    """

    trials: list[Trial] = field(default_factory=list)
    bad_lines: list[tuple[int, str]] = field(default_factory=list)
    fault: str = ""

    @property
    def utterances(self) -> list[str]:
        """All utterances of the trials, each once, sorted."""
        return utterances(self.trials)

    def placed(self, actual: Mapping[str, str | None]) -> "TrialList":
        """Return the list with the names of files on disk; missing files keep their names."""
        names = {name: there or name for name, there in actual.items()}
        trials = [Trial(label, names[first], names[second]) for label, first, second in self.trials]
        return TrialList(trials, self.bad_lines, self.fault)


def parse_trial(line: str) -> Trial | None:
    """Read one line in any of the published forms; return None for other lines.

    The forms are ``1 id/video/file.wav id/video/file.wav``, the same with ``wav/`` or ``test/wav/`` in front of the
    paths, and Kaldi's ``id-video-file id-video-file target``.
    """
    fields = line.split()
    if len(fields) != 3:
        return None
    if fields[0] not in LABELS and fields[2] in LABELS:
        fields = [fields[2], *fields[:2]]
    paths = [_trial_path(name) for name in fields[1:]]
    if fields[0] not in LABELS or "" in paths:
        return None
    return Trial(LABELS[fields[0]], *paths)


def _trial_path(name: str) -> str:
    """Return ``speaker/video/file.wav``, or an empty string for something else."""
    kaldi = _KALDI_NAME.match(name)
    if kaldi:
        return "/".join(kaldi.groups()) + ".wav"
    parts = name.removeprefix("./").split("/")
    if "wav" in parts[:-3]:
        parts = parts[parts.index("wav") + 1 :]
    return "/".join(parts) if len(parts) == 3 and parts[-1].lower().endswith(AUDIO_SUFFIXES) else ""


def read_trials(path: Path) -> TrialList:
    """Read a trial list.

    Raises:
        ElpError: the file cannot be read.
    """
    content, fault = texts.read(path)
    if fault.startswith("cannot"):
        raise ElpError(f"{path}: the trial list {fault}")
    read = TrialList(fault=fault)
    for number, line in enumerate(texts.lines(content), start=1):
        trial = parse_trial(line)
        if trial is not None:
            read.trials.append(trial)
        elif line.strip():
            read.bad_lines.append((number, line.strip()))
    return read


def trial_problems(name: str, read: TrialList, *, root: Path, there: set[str]) -> list[Problem]:
    """Check a list, which has the names of files on disk, against the test files.

    Args:
        name: the list's name for messages.
        read: the list.
        root: the corpus.
        there: files of the test set, as ``speaker/video/file.wav``.
    """
    problems = [Problem("encoding", name, f"{name} {read.fault}.", False)] if read.fault else []
    lines = "lines are not trials (label, path, path)"
    for number, text in read.bad_lines:
        sentence = f"{name} line {number} is not a trial (label, path, path): {text[:80]!r}."
        problems.append(Problem("trial-line", name, sentence, False, f"{lines} in {name}"))
    problems += _absent_trials(name, read, root, there)
    for trial in read.trials:
        same = trial.first.split("/")[0] == trial.second.split("/")[0]
        if same != bool(trial.label):
            sentence = f"{name} has the trial '{trial}', whose label contradicts the speakers."
            problems.append(Problem("trial-label", name, sentence, False, f"labels contradict the speakers in {name}"))
    if {trial.label for trial in read.trials} != {0, 1}:
        sentence = f"{name} must contain trials of the same speaker and of different speakers."
        problems.append(Problem("trial-label", name, sentence, False))
    return problems


def _absent_trials(name: str, read: TrialList, root: Path, there: set[str]) -> list[Problem]:
    used = Counter(path for trial in read.trials for path in {trial.first, trial.second})
    absent = {}
    for path in sorted(set(used) - there):
        sentence = f"test/wav/{path} is missing, but needed by {counted(used[path], 'trial')} of {name}."
        cause = f"files that {name} names are missing in test/wav"
        absent[f"test/wav/{path}"] = Problem("missing-audio", f"test/wav/{path}", sentence, False, cause)
    # other formats are already problems of the folder
    return [problem for problem in absent_problems(root, absent) if problem.kind != "format"]


def place_trials(root: Path, read: TrialList) -> TrialList:
    """Return a list with the names of its files on disk; unreadable folders are problems of the test part."""
    return read.placed(locate(root / "test" / "wav", read.utterances, closed={}))
