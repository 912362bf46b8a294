"""The survey of VoxCeleb1 before training SV."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from downstream_heads.common.own import survey_own
from downstream_heads.common.size import KEY, limited
from downstream_heads.common.survey import Need, Part, Survey
from downstream_heads.elp_sv.about import TASK
from downstream_heads.elp_sv.data import EFFECTS
from downstream_heads.elp_sv.embedding import frames_needed
from downstream_heads.elp_sv.lengths import trimmed_lengths
from downstream_heads.elp_sv.model import XVECTOR_SHRINK
from downstream_heads.elp_sv.options import DATA, TOLERATED, data_options, head_options, objective_options
from downstream_heads.elp_sv.own import read_speakers, trial_problems
from downstream_heads.elp_sv.trials import choose_speakers, read_trials, trials_path, utterances
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import subfolders
from upstream_elp.base.problems import Problem
from upstream_elp.base.values import mapping
from upstream_elp.corpora.registry import corpus_root, manifest_for
from upstream_elp.corpora.voxceleb1 import Listing, Utterance, read_part, speaker_problems

MIXING = {"resample": True, "channels": "mean"}
"""How SUPERB's effects read files."""


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Check folders and trials.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits; with the protocol ``superb``, ``dev`` means test.
        variant: unused, as this task has no variants.
        front: how the upstream turns samples into frames.

    Raises:
        ElpError: a config key is wrong, or there is no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key=DATA))
    modelrc = mapping(block.get("modelrc"), key="downstream_expert.modelrc")
    head, _ = head_options(modelrc)
    objective_options(modelrc)  # checked here too, so that a wrong value shows early
    lost = f" ({XVECTOR_SHRINK} frames are lost in the x-vector layers)" if head == "superb" else ""
    need = Need(front.samples(frames_needed(head)), f"backbone and head need{lost}")
    # the protocol without a dev set evaluates test instead
    wanted = [split if split != "dev" or rc["protocol"] == "dev" else "test" for split in splits]
    wanted = list(dict.fromkeys(wanted))
    source = manifest_for(rc, TASK.corpus)
    look = _of_manifest if source else _of_corpus
    found = look(source or corpus_root(rc, TASK.corpus), wanted, rc, need)
    _check_crop(found, rc, need.samples)
    return found


def _of_manifest(source: Path, wanted: Sequence[str], rc: Mapping[str, Any], need: Need) -> Survey:
    """Return the survey of a user's own data."""
    own = read_speakers(source, needed=wanted)
    found = survey_own(TASK, own, wanted, {**MIXING, KEY: rc[KEY]})
    found.warnings, found.tolerated = [], TOLERATED  # shared speakers are problems here
    for part in found.parts:
        if part.name == "test":
            rows, problems, remarks = trial_problems(own, rc)
            found.problems += problems
            found.remarks += remarks
            part.files, part.speakers = [row.path for row in rows], [row.speaker for row in rows]
            found.needs |= dict.fromkeys(part.files, need)
        part.classes = part.speakers if part.name == "train" else []
    everyone = [row for split in ("train", "dev") for row in own.of[split] if split in wanted]
    found.deeper = partial(_trimmed, rc=rc, everyone=everyone)
    return found


def _of_corpus(root: Path, wanted: Sequence[str], rc: Mapping[str, Any], need: Need) -> Survey:
    """Return the survey of VoxCeleb1."""
    found = Survey(TASK.name, root, resample=True, mix=True, tolerated=TOLERATED)  # SUPERB's effects convert and mix
    # the head needs the training speakers; if only test is evaluated, it is enough to know that there are any
    needed = {"train", "dev"} & set(wanted) or not subfolders(root / "dev" / "wav")
    dev = read_part(root, "dev") if needed else Listing()
    test = read_part(root, "test") if "test" in wanted else Listing()
    found.add(dev)
    found.add(test)
    found.problems += speaker_problems(dev, test)
    apart = _held_out(found, rc, sorted(dev.speakers))
    for split in wanted:
        rows = [row for row in dev.rows if (row.speaker in apart) == (split == "dev")]
        if split == "train":
            rows = limited(root, rows, rc)
        trials: list[str] = []
        if split == "test":
            rows, trials = _trials(found, rc, test)
            found.needs |= dict.fromkeys((row.path for row in rows), need)
        speakers = [row.speaker for row in rows]
        classes = speakers if split == "train" else []
        found.parts.append(Part(split, [row.path for row in rows], speakers, classes, trials))
    found.deeper = partial(_trimmed, rc=rc, everyone=dev.rows, train="dev/wav/", test="test/wav/")
    return found


def _trimmed(
    found: Survey, jobs: int, *, rc: Mapping[str, Any], everyone: Sequence[Any], train: str = "", test: str = ""
) -> None:
    """Check the lengths after SUPERB's effects; they are cached, so that a run starts faster.

    Args:
        found: the survey.
        jobs: threads.
        rc: the data block.
        everyone: the utterances of training and held-out speakers.
        train: the folder that they are in.
        test: the folder of the test utterances.
    """
    chain = EFFECTS[rc["effects"]]
    after = "after trimming silence, " if rc["effects"] == "superb" else ""
    broken = {problem.path for problem in found.problems}
    if everyone and not broken & {row.path for row in everyone}:
        names = [row.path.removeprefix(train) for row in everyone]
        long = trimmed_lengths(found.root / train, names, effects=chain, n_jobs=jobs) > rc["min_samples"]
        if short := int((~long).sum()):
            sentence = f"{short} of {len(names)} training utterances are skipped: {after}they have at most "
            found.remarks.append(f"{sentence}{rc['min_samples']} samples ({DATA}.min_samples)")
        usable = {row.speaker for row, enough in zip(everyone, long, strict=True) if enough}
        if none := sorted({row.speaker for row in everyone} - usable):
            what = counted(len(none), "speaker has", "speakers have")
            found.remarks.append(
                f"{what} no utterance that is longer, so these classes have no data (such as {none[0]})"
            )
    if not after or rc["too_short"] == "untrimmed":
        return  # without trimming, the headers have shown it
    tested = next((part.files for part in found.parts if part.name == "test"), [])
    names = [file.removeprefix(test) for file in tested if file not in broken]
    for name, length in zip(names, trimmed_lengths(found.root / test, names, n_jobs=jobs), strict=True):
        need = found.needs[f"{test}{name}"]
        if length < need.samples:
            sentence = f"{test}{name} has {length} samples after trimming silence, "
            sentence += f"fewer than the {need.samples} that {need.why}"
            sentence += f"; set {DATA}.too_short: untrimmed, or remove its trials."
            found.problems.append(Problem("head", f"{test}{name}", sentence))


def _check_crop(found: Survey, rc: Mapping[str, Any], least: int) -> None:
    """Report training utterances that may be too short for the head."""
    for key, samples in (("max_timestep", rc["max_timestep"]), ("min_samples", rc["min_samples"] + 1)):
        if samples is not None and samples < least:
            sentence = f"config key {DATA}.{key} allows utterances of {samples} samples, but the head needs {least}."
            found.problems.append(Problem("config", key, sentence, False))


def _held_out(found: Survey, rc: Mapping[str, Any], speakers: list[str]) -> set[str]:
    """Return the speakers of the dev set."""
    if not speakers:
        return set()
    try:
        return set(choose_speakers(speakers, rc, folder=found.root / "dev" / "wav"))
    except ElpError as error:
        found.problems.append(Problem("speakers", "dev/wav", f"{error}.", False))
        return set()


def _trials(found: Survey, rc: Mapping[str, Any], test: Listing) -> tuple[list[Utterance], list[str]]:
    """Compare the trial list with the test files, and return the files in it and the trials."""
    path = trials_path(found.root, rc["trials"])
    trials, problems = read_trials(path, found.root, there=test.names)
    found.problems += problems
    if not path.is_file():
        return test.rows, []
    used = set(utterances(trials))
    found.remarks.append(f"{path.name}: {len(trials):,} trials of {len(used):,} files")
    rows = [row for row, name in zip(test.rows, test.names, strict=True) if name in used]
    return rows, [str(trial) for trial in trials]
