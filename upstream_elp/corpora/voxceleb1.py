"""VoxCeleb1: folders of speakers and the trial lists of the test set."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.audio.formats import OTHERS, absent_problems, only_other_formats
from upstream_elp.audio.headers import Options
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import Tree, locate, look
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks, files
from upstream_elp.corpora.listing import Report, summarise

# names under which the lists are published: OpenSLR 49 (SUPERB's), then the corpus' own site (all, cleaned)
LISTS = ("voxceleb1_test_v2.txt", "voxceleb1_test.txt", "veri_test.txt", "veri_test2.txt")
OFFICIAL_TRIALS = {37_720: "the list that SUPERB uses", 37_611: "the cleaned list VoxCeleb1-O"}
OFFICIAL_DEV = {"files": 148_642, "speakers": 1211}
AUDIO_SUFFIXES = (".wav", ".flac")
DEPTH = 4  # slashes in dev/wav/<speaker>/<video>/<file>
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
    """A trial list as read.

    Attributes:
        trials: its trials.
        bad_lines: number and text of each line that is none.
        fault: what is wrong with the file's coding; empty where nothing is.
    """

    trials: list[Trial] = field(default_factory=list)
    bad_lines: list[tuple[int, str]] = field(default_factory=list)
    fault: str = ""

    @property
    def utterances(self) -> list[str]:
        """Every utterance that occurs, once, sorted."""
        return sorted({path for trial in self.trials for path in (trial.first, trial.second)})

    def placed(self, actual: Mapping[str, str | None]) -> "TrialList":
        """The same list with the names that files have on disk; what is not there keeps its own."""
        names = {name: there or name for name, there in actual.items()}
        trials = [Trial(trial.label, names[trial.first], names[trial.second]) for trial in self.trials]
        return TrialList(trials, self.bad_lines, self.fault)


@dataclass
class Part:
    """The audio of ``dev`` or ``test``, relative to the corpus root.

    Attributes:
        files: the utterances at ``<part>/wav/<speaker>/<video>/<file>``, sorted.
        misplaced: audio at other places.
        others: audio at such places in formats that are not read.
        tree: everything that was found.
    """

    files: list[str]
    misplaced: list[str]
    others: list[str]
    tree: Tree

    @property
    def speakers(self) -> list[str]:
        """Those with utterances, sorted."""
        return sorted({file.split("/")[2] for file in self.files})


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
    return "/".join(parts) if len(parts) == 3 and parts[-1].lower().endswith(AUDIO_SUFFIXES) else ""


def read_trials(path: Path) -> TrialList:
    """Read a trial list.

    Raises:
        ElpError: where the file cannot be read.
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


def read_part(root: Path, part: str) -> Part:
    """List the audio of ``dev`` or ``test``.

    Args:
        root: the corpus.
        part: which of the two.
    """
    tree = look(root / part / "wav", root=root, suffix=(*AUDIO_SUFFIXES, *OTHERS))
    read = [file for file in tree.files if file.lower().endswith(AUDIO_SUFFIXES)]
    others = [file for file in tree.files if not file.lower().endswith(AUDIO_SUFFIXES)]
    return Part(
        files=[file for file in read if file.count("/") == DEPTH],
        misplaced=[file for file in read if file.count("/") != DEPTH],
        others=[file for file in others if file.count("/") == DEPTH],
        tree=tree,
    )


def trial_problems(name: str, read: TrialList, *, root: Path, there: set[str]) -> list[Problem]:
    """Check a list, with the names that files have on disk, against the test files.

    Args:
        name: the list's name for the sentences.
        read: the list.
        root: the corpus.
        there: files of the test set as ``speaker/video/file.wav``.
    """
    problems = [Problem("encoding", name, f"{name} {read.fault}.", False)] if read.fault else []
    lines = "lines are not trials (label, path, path)"
    for number, text in read.bad_lines:
        sentence = f"{name} line {number} is no trial (label, path, path): {text[:80]!r}."
        problems.append(Problem("trial-line", name, sentence, False, f"{lines} in {name}"))
    problems += _absent_trials(name, read, root, there)
    for trial in read.trials:
        same = trial.first.split("/")[0] == trial.second.split("/")[0]
        if same != bool(trial.label):
            sentence = f"{name} has the trial '{trial}', whose label contradicts the speakers."
            problems.append(Problem("trial-label", name, sentence, False, f"labels contradict the speakers in {name}"))
    if {trial.label for trial in read.trials} != {0, 1}:
        sentence = f"{name} has no trials of one of the two sorts (same speaker, different speakers)."
        problems.append(Problem("trial-label", name, sentence, False))
    return problems


def _absent_trials(name: str, read: TrialList, root: Path, there: set[str]) -> list[Problem]:
    used = Counter(path for trial in read.trials for path in {trial.first, trial.second})
    absent = {}
    for path in sorted(set(used) - there):
        sentence = f"test/wav/{path} is missing, but needed by {counted(used[path], 'trial')} of {name}."
        cause = f"files that {name} names are missing in test/wav"
        absent[f"test/wav/{path}"] = Problem("missing-audio", f"test/wav/{path}", sentence, False, cause)
    # other formats are problems of the folder already
    return [problem for problem in absent_problems(root, absent) if problem.kind != "format"]


def place_trials(root: Path, read: TrialList, *, closed: dict[str, str]) -> TrialList:
    """Give a list the names that its files have on disk.

    Args:
        root: the corpus.
        read: the list.
        closed: receives the folders below ``test/wav`` that cannot be listed, and why.
    """
    return read.placed(locate(root / "test" / "wav", read.utterances, closed=closed))


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
    lists = {path: place_trials(root, read, closed={}) for path, read in lists.items()}
    every = [file for members in audio.values() for file in members]
    headers = report.read(every, options)
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
        report.problems += trial_problems(path.name, read, root=root, there=there)
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
    """List ``<split>/wav/<speaker>/<video>/<file>.wav`` and report other places, other formats and empty speakers."""
    found, top = read_part(report.root, split), f"{split}/wav"
    report.problems += checks.closed_problems(found.tree.closed)
    report.warnings += checks.again_remarks(found.tree.again)
    layout = f"the layout is {top}/<speaker>/<video>/<number>.wav"
    for file in found.misplaced:
        sentence, cause = f"{file} is not where it should be; {layout}.", f"{AUDIO} are not where they should be"
        report.problems.append(Problem("misplaced", file, sentence, cause=f"{cause}; {layout}"))
    report.problems += only_other_formats(found.files, found.others, wanted=".wav")
    if not (found.files or found.others or found.tree.closed):
        sentence = f"{top} is missing or holds no .wav file; unpack the {split} archive into {split}/."
        report.problems.append(Problem("layout", top, sentence, False))
    if split == "dev":
        report.problems += _empty_speakers(found, top)
    return found.files


def _empty_speakers(found: Part, top: str) -> list[Problem]:
    """Folders among the speakers without an utterance, unless something else was said of them."""
    tree, problems = found.tree, []
    told = {name.split("/")[2] for name in (*tree.closed, *tree.again, *found.others) if name.count("/") > 1}
    for name in sorted(set(tree.folders) - told - set(found.speakers)):
        sentence = f"{top}/{name} holds no .wav file at <video>/<number>.wav, so it is not a speaker here, but "
        sentence += f"S3PRL's own task would count it as one; complete its audio or move it out of {top}."
        cause = f"folders in {top} hold no .wav file at <video>/<number>.wav"
        problems.append(Problem("empty-speaker", f"{top}/{name}", sentence, False, cause))
    return problems


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
