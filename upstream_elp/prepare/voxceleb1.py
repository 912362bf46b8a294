"""VoxCeleb1: folders of speakers and the trial lists of the test set."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.errors import ElpError, counted
from upstream_elp.prepare import checks, files
from upstream_elp.prepare.headers import Options, read_headers
from upstream_elp.prepare.report import Problem, Report, summarise

# names under which the lists are published: OpenSLR 49 (SUPERB's), then the corpus' own site (all, cleaned)
LISTS = ("voxceleb1_test_v2.txt", "voxceleb1_test.txt", "veri_test.txt", "veri_test2.txt")
OFFICIAL_TRIALS = {37_720: "the list that SUPERB uses", 37_611: "the cleaned list VoxCeleb1-O"}
OFFICIAL_DEV = {"files": 148_642, "speakers": 1211}
AUDIO_SUFFIXES = (".wav", ".flac")
_KALDI_NAME = re.compile(r"^(id\d{5})-(.+)-(\d{5})$")
_LABELS = {"1": 1, "0": 0, "target": 1, "nontarget": 0}


@dataclass(frozen=True)
class Trial:
    """Two utterances of the test set and whether one speaker said both (1) or not (0)."""

    label: int
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.label} {self.first} {self.second}"


@dataclass
class TrialList:
    """A trial list as read: its trials, and the numbers and texts of lines that are none."""

    trials: list[Trial] = field(default_factory=list)
    bad_lines: list[tuple[int, str]] = field(default_factory=list)


def parse_trial(line: str) -> Trial | None:
    """Read one line of any of the published forms, or return None.

    The forms are ``1 id/video/file.wav id/video/file.wav``, the same with ``wav/`` or ``test/wav/`` in front of the
    paths, and Kaldi's ``id-video-file id-video-file target``.
    """
    fields = line.split()
    if len(fields) != 3:
        return None
    if fields[0] not in _LABELS and fields[2] in _LABELS:
        fields = [fields[2], *fields[:2]]
    paths = [_trial_path(name) for name in fields[1:]]
    if fields[0] not in _LABELS or "" in paths:
        return None
    return Trial(_LABELS[fields[0]], *paths)


def _trial_path(name: str) -> str:
    """Return ``speaker/video/file.wav``, or an empty string for something else."""
    kaldi = _KALDI_NAME.match(name)
    if kaldi:
        return "/".join(kaldi.groups()) + ".wav"
    parts = name.removeprefix("./").split("/")
    if "wav" in parts[:-3]:
        parts = parts[parts.index("wav") + 1 :]
    return "/".join(parts) if len(parts) == 3 and parts[-1].endswith(AUDIO_SUFFIXES) else ""


def read_trials(path: Path) -> TrialList:
    """Read a trial list.

    Raises:
        ElpError: where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ElpError(f"{path}: the trial list cannot be read ({error.strerror})") from error
    read = TrialList()
    for number, line in enumerate(lines, start=1):
        trial = parse_trial(line)
        if trial is not None:
            read.trials.append(trial)
        elif line.strip():
            read.bad_lines.append((number, line.strip()))
    return read


def trial_problems(name: str, read: TrialList, *, there: set[str]) -> list[Problem]:
    """Check a list against the test files.

    Args:
        name: the list's name for the sentences.
        read: the list.
        there: files of the test set as ``speaker/video/file.wav``.
    """
    problems = [
        Problem("trial-line", name, f"{name} line {number} is no trial (label, path, path): {text[:80]!r}.", False)
        for number, text in read.bad_lines
    ]
    used = Counter(path for trial in read.trials for path in {trial.first, trial.second})
    for path in sorted(set(used) - there):
        sentence = f"test/wav/{path} is missing, but needed by {counted(used[path], 'trial')} of {name}."
        problems.append(Problem("missing-audio", f"test/wav/{path}", sentence, False))
    for trial in read.trials:
        same = trial.first.split("/")[0] == trial.second.split("/")[0]
        if same != bool(trial.label):
            sentence = f"{name} has the trial '{trial}', whose label contradicts the speakers."
            problems.append(Problem("trial-label", name, sentence, False))
    if {trial.label for trial in read.trials} != {0, 1}:
        sentence = f"{name} has no trials of one of the two sorts (same speaker, different speakers)."
        problems.append(Problem("trial-label", name, sentence, False))
    return problems


def find_lists(root: Path, given: Iterable[Path]) -> list[Path]:
    """Return the trial lists: those given, or the published names in ``root`` and ``root/meta``."""
    published = (folder / name for folder in (root, root / "meta") for name in LISTS)
    return list(given) or [path for path in published if path.is_file()]


def prepare(root: Path, out: Path, *, trials: Iterable[Path] = (), options: Options | None = None) -> Report:
    """Check VoxCeleb1 and write each trial list in the form ``1 id/video/file.wav id/video/file.wav``.

    Args:
        root: folder that holds ``dev/wav`` and ``test/wav``.
        out: folder for the lists.
        trials: trial lists; empty for those that lie in ``root``.
        options: how to read.

    Raises:
        ElpError: where ``root`` is not VoxCeleb1 or a trial list cannot be read.
    """
    options = options or Options()
    files.check_root(root, holds=("dev", "test"), unpacked="VoxCeleb1")
    lists = {path: read_trials(path) for path in find_lists(root, trials)}
    report = Report("voxceleb1", root, files.open_out(out))
    audio = {split: scan_split(report, split) for split in ("dev", "test")}
    every = [file for members in audio.values() for file in members]
    headers = read_headers(root, every, cache=out / ".voxceleb1-headers.jsonl", options=options)
    report.problems += [problem for file in every for problem in checks.audio_problems(file, headers[file])]
    speakers = {split: {file.split("/")[2] for file in members} for split, members in audio.items()}
    for split, members in audio.items():
        report.splits.append(summarise(split, members, headers, speakers[split]))
    for _, _, shared in checks.shared_speakers(speakers):
        sentence = (
            f"dev/wav and test/wav share {counted(len(shared), 'speaker')} (such as {shared[0]}); that is no test."
        )
        report.problems.append(Problem("speakers", "dev/wav", sentence, False))
    there = {file.removeprefix("test/wav/") for file in audio["test"]}
    if not lists:
        sentence = (
            f"There is no trial list: put voxceleb1_test_v2.txt from openslr.org/49 into {root}"
            f" (or one of {', '.join(LISTS[1:])}), or name one with --trials."
        )
        report.problems.append(Problem("layout", LISTS[0], sentence, False))
    for path, read in lists.items():
        report.problems += trial_problems(path.name, read, there=there)
        _describe(report, path.name, read.trials)
    dev = report.splits[0]
    counts = [(f"{what} of dev", getattr(dev, what), official) for what, official in OFFICIAL_DEV.items()]
    report.warnings += checks.count_warnings(counts)
    if not report.blocked(skip_broken=False):
        for path, read in lists.items():
            text = "".join(f"{trial}\n" for trial in read.trials)
            report.tables.append(files.write_text(out / path.name, text))
    return report


def scan_split(report: Report, split: str) -> list[str]:
    """List ``<split>/wav/<speaker>/<video>/<file>.wav`` and report other places and empty speakers."""
    root, top = report.root, report.root / split / "wav"
    members = files.list_files(top, suffix=AUDIO_SUFFIXES, root=root)
    for file in members:
        if file.count("/") != 4:
            sentence = f"{file} is not where it should be; the layout is {split}/wav/<speaker>/<video>/<number>.wav."
            report.problems.append(Problem("misplaced", file, sentence, False))
    if not members:
        sentence = f"{split}/wav is missing or holds no .wav file; unpack the {split} archive into {split}/."
        report.problems.append(Problem("layout", f"{split}/wav", sentence, False))
    folders = {path.name for path in top.iterdir() if path.is_dir()} if top.is_dir() else set()
    for empty in sorted(folders - {file.split("/")[2] for file in members}):
        sentence = f"{split}/wav/{empty} holds no .wav file, but stock S3PRL would count it as a speaker; remove it."
        report.problems.append(Problem("empty-speaker", f"{split}/wav/{empty}", sentence, False))
    return members


def _describe(report: Report, name: str, trials: list[Trial]) -> None:
    used = {path for trial in trials for path in (trial.first, trial.second)}
    targets = sum(trial.label for trial in trials)
    figures = {"trials": len(trials), "same_speaker": targets, "files": len(used)}
    report.details.setdefault("trials", {})[name] = figures
    what = OFFICIAL_TRIALS.get(len(trials))
    kind = what or "no official list: those have " + " or ".join(f"{count:,}" for count in OFFICIAL_TRIALS)
    report.warnings.append(
        f"{name}: {len(trials):,} trials, {targets:,} of them same-speaker, {len(used):,} files; {kind}."
    )
    repeated = len(trials) - len(set(trials))
    if repeated:
        report.warnings.append(f"{name}: {counted(repeated, 'line repeats', 'lines repeat')} an earlier trial.")
