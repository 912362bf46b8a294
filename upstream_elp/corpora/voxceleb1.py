"""VoxCeleb1: folders of speakers, and the trial lists of the test set."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from upstream_elp.audio.formats import OTHERS, only_other_formats
from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import counted
from upstream_elp.base.files import write_text
from upstream_elp.base.folders import look
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.description import Corpus, PrepareCommand
from upstream_elp.corpora.preparation import Report, begin, summarise
from upstream_elp.corpora.reading import Reading
from upstream_elp.corpora.trials import AUDIO_SUFFIXES, Trial, place_trials, read_trials, trial_problems, utterances

# published names of the lists: OpenSLR 49 (SUPERB's), then the corpus' own site (all, cleaned)
LISTS = ("voxceleb1_test_v2.txt", "voxceleb1_test.txt", "veri_test.txt", "veri_test2.txt")
OFFICIAL_TRIALS = {37_720: "the list that SUPERB uses", 37_611: "the cleaned list VoxCeleb1-O"}
OFFICIAL_DEV = {"files": 148_642, "speakers": 1211}
DEPTH = 4  # slashes in dev/wav/<speaker>/<video>/<file>
CORPUS = Corpus(
    name="VoxCeleb1",
    folder="VoxCeleb1",
    source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html (dev and test wav parts, veri_test.txt)",
    layout="dev/wav/<id>/<video>/<nnnnn>.wav, test/wav/<id>/<video>/<nnnnn>.wav and voxceleb1_test_v2.txt",
    signs=("dev/wav", "test/wav"),
    holds=("dev", "test"),
    keys=("root", "file_path"),
    command=PrepareCommand(
        name="voxceleb1",
        summary="VoxCeleb1's folders and trial lists.",
        text="""Check VoxCeleb1 in ROOT (with dev/wav and test/wav) and its trial lists, and write the lists to OUT in
        one form.

        By default, the lists are those with published names in ROOT or ROOT/meta: voxceleb1_test_v2.txt (SUPERB),
        voxceleb1_test.txt, veri_test.txt, veri_test2.txt.
        """,
        trials=True,
    ),
)


class Utterance(NamedTuple):
    """One utterance: ``<part>/wav/<speaker>/<video>/<file>`` and its speaker."""

    path: str
    speaker: str


@dataclass
class Listing(Reading[Utterance]):
    """The utterances of ``dev`` or ``test``, sorted.

    Attributes:
        names: the utterances relative to the part's ``wav`` folder, as trial lists name them.
    """

    names: list[str] = field(default_factory=list)

    @property
    def speakers(self) -> set[str]:
        """The speakers with utterances."""
        return {row.speaker for row in self.rows}


def read_part(root: Path, part: str) -> Listing:
    """List ``<part>/wav/<speaker>/<video>/<file>``: the only reader of this corpus, for all commands and tasks.

    Args:
        root: the corpus.
        part: ``dev`` or ``test``.

    Returns:
        The utterances; audio in other places, other formats and empty speakers are problems.
    """
    top = f"{part}/wav"
    tree = look(root / top, root=root, suffix=(*AUDIO_SUFFIXES, *OTHERS))
    read = [file for file in tree.files if file.lower().endswith(AUDIO_SUFFIXES)]
    others = [file for file in tree.files if file.count("/") == DEPTH and not file.lower().endswith(AUDIO_SUFFIXES)]
    files = [file for file in read if file.count("/") == DEPTH]
    found = Listing(rows=[Utterance(file, file.split("/", 3)[2]) for file in files])
    found.names = [file[len(top) + 1 :] for file in files]
    found.problems += checks.closed_problems(tree.closed)
    found.remarks += checks.again_remarks(tree.again)
    layout = f"the layout is {top}/<speaker>/<video>/<number>.wav"
    for file in (file for file in read if file.count("/") != DEPTH):
        sentence, cause = f"{file} is in the wrong place; {layout}.", f"{AUDIO} are in the wrong place"
        found.problems.append(Problem("misplaced", file, sentence, cause=f"{cause}; {layout}"))
    found.problems += only_other_formats(files, others, wanted=".wav")
    if not (files or others or tree.closed):
        sentence = f"{top} is missing or contains no .wav files; unpack the {part} archive into {part}/."
        found.problems.append(Problem("layout", top, sentence, False))
    if part == "dev":
        known = {name.split("/")[2] for name in (*tree.closed, *tree.again, *others) if name.count("/") > 1}
        found.problems += _empty_speakers(sorted(set(tree.folders) - known - found.speakers), top)
    return found


def _empty_speakers(names: Iterable[str], top: str) -> list[Problem]:
    """Report the other speaker folders without utterances."""
    problems = []
    for name in names:
        sentence = f"{top}/{name} contains no <video>/<number>.wav, so it is not a speaker here, but "
        sentence += f"S3PRL's own task would count it as one; complete its audio or move it out of {top}."
        cause = f"folders in {top} contain no <video>/<number>.wav"
        problems.append(Problem("empty-speaker", f"{top}/{name}", sentence, False, cause))
    return problems


def speaker_problems(dev: Listing, test: Listing) -> list[Problem]:
    """Report speakers that are in both parts."""
    shared = sorted(dev.speakers & test.speakers)
    if not shared:
        return []
    count = counted(len(shared), "speaker")
    sentence = f"dev/wav and test/wav share {count} (such as {shared[0]}); unpack the archives again."
    return [Problem("speakers", "dev/wav", sentence, False)]


def find_lists(root: Path, given: Iterable[Path]) -> list[Path]:
    """Return the trial lists: the given ones, or those with published names in ``root`` and ``root/meta``."""
    published = (folder / name for folder in (root, root / "meta") for name in LISTS)
    return list(given) or [path for path in published if path.is_file()]


def prepare(root: Path, out: Path, *, trials: Iterable[Path] = (), options: Options | None = None) -> Report:
    """Check VoxCeleb1 and write each trial list in the form ``1 id/video/file.wav id/video/file.wav``.

    Args:
        root: folder that contains ``dev/wav`` and ``test/wav``.
        out: folder for the lists.
        trials: trial lists; empty for those in ``root``.
        options: how to read.

    Raises:
        ElpError: ``root`` is not VoxCeleb1, or a trial list cannot be read.
    """
    report = begin(CORPUS, root, out)
    lists = {path: read_trials(path) for path in find_lists(root, trials)}
    parts = {part: read_part(root, part) for part in ("dev", "test")}
    for part in parts.values():
        report.problems += part.problems
        report.warnings += part.remarks
    lists = {path: place_trials(root, read) for path, read in lists.items()}
    headers = report.read([row.path for part in parts.values() for row in part.rows], options or Options())
    report.check_audio(headers)
    for name, part in parts.items():
        report.splits.append(summarise(name, [row.path for row in part.rows], headers, part.speakers))
    report.problems += speaker_problems(parts["dev"], parts["test"])
    if not lists:
        sentence = (
            f"there is no trial list; put {LISTS[0]} from openslr.org/49 into {root}"
            f" (or one of {', '.join(LISTS[1:])}), or pass one with --trials."
        )
        report.problems.append(Problem("layout", LISTS[0], sentence, False))
    for path, read in lists.items():
        report.problems += trial_problems(path.name, read, root=root, there=set(parts["test"].names))
        _describe(report, path.name, read.trials)
    dev = report.splits[0]
    counts = [(f"{what} of dev", getattr(dev, what), official) for what, official in OFFICIAL_DEV.items()]
    report.warnings += checks.count_warnings(counts)
    if not report.blocked(skip_broken=False):
        for path, read in lists.items():
            text = "".join(f"{trial}\n" for trial in read.trials)
            report.tables.append(write_text(out / path.name, text))
    return report


def _describe(report: Report, name: str, trials: list[Trial]) -> None:
    used = utterances(trials)
    targets = sum(trial.label for trial in trials)
    figures = {"trials": len(trials), "same_speaker": targets, "files": len(used)}
    report.details.setdefault("trials", {})[name] = figures
    what = OFFICIAL_TRIALS.get(len(trials))
    kind = what or "not an official list: those have " + " or ".join(f"{count:,}" for count in OFFICIAL_TRIALS)
    report.warnings.append(
        f"{name}: {len(trials):,} trials, {targets:,} of them same-speaker, {len(used):,} files; {kind}."
    )
    repeated = len(trials) - len(set(trials))
    if repeated:
        report.warnings.append(f"{name}: {counted(repeated, 'line repeats', 'lines repeat')} an earlier trial.")
