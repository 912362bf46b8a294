"""What SV finds in VoxCeleb1 before it trains."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from downstream_heads.common.options import mapping
from downstream_heads.common.roots import corpus_root
from downstream_heads.common.survey import Need, Part, Survey
from downstream_heads.elp_sv.about import TASK
from downstream_heads.elp_sv.lengths import trimmed_lengths
from downstream_heads.elp_sv.model import XVECTOR_MIN_FRAMES, XVECTOR_SHRINK
from downstream_heads.elp_sv.options import DATA, data_options, head_options
from downstream_heads.elp_sv.trials import TRIALS_FILE, TRIALS_SOURCE, hold_out
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks, voxceleb1
from upstream_elp.corpora.listing import Report


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Look at folders and trials.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits; test stands for ``dev`` with the protocol that has none.
        variant: has no meaning here.
        front: how the upstream makes frames of samples.

    Raises:
        ElpError: a wrong key, or no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key=DATA))
    head, _ = head_options(mapping(block.get("modelrc"), key="downstream_expert.modelrc"))
    root = corpus_root(rc, TASK.corpus)
    found = Survey(TASK.name, root, resample=True, mix=True)  # SUPERB's effects convert and mix
    found.tolerated |= {"empty-speaker"}  # which counts for S3PRL's own task only
    frames = XVECTOR_MIN_FRAMES if head == "superb" else 1
    _check_crop(found, rc, front.samples(frames))
    report = Report("voxceleb1", root, root)
    # the protocol without a dev set evaluates test in its place
    wanted = [split if split != "dev" or rc["protocol"] == "dev" else "test" for split in splits]
    wanted = list(dict.fromkeys(wanted))
    audio = {"dev": voxceleb1.scan_split(report, "dev") if {"train", "dev"} & set(wanted) else []}
    audio["test"] = voxceleb1.scan_split(report, "test") if "test" in wanted else []
    found.problems += report.problems
    found.remarks += report.warnings
    speakers = {part: {_speaker(file) for file in members} for part, members in audio.items()}
    for _, _, shared in checks.shared_speakers(speakers):
        share = counted(len(shared), "speaker")
        sentence = f"dev/wav and test/wav share {share} (such as {shared[0]}); that is no test."
        found.problems.append(Problem("speakers", "dev/wav", sentence, False))
    apart = _held_out(found, rc, speakers["dev"])
    for split in wanted:
        members = audio["dev" if split != "test" else "test"]
        if split != "test":
            members = [file for file in members if (_speaker(file) in apart) == (split == "dev")]
        else:
            members = _trials(found, rc, members)
            why = f"backbone and head need ({XVECTOR_SHRINK} frames are lost in the x-vector's layers)"
            found.needs |= dict.fromkeys(members, Need(front.samples(frames), why))
        classes = [_speaker(file) for file in members] if split == "train" else []
        found.parts.append(Part(split, members, [_speaker(file) for file in members], classes))
    found.deeper = partial(_trimmed, rc=rc, everyone=audio["dev"])
    return found


def _trimmed(found: Survey, jobs: int, *, rc: Mapping[str, Any], everyone: list[str]) -> None:
    """Look at the lengths that SUPERB's effects leave; they are kept, and a run then starts without reading them."""
    broken = {problem.path for problem in found.problems}
    if everyone and not broken & set(everyone):
        names = [file.removeprefix("dev/wav/") for file in everyone]
        lengths = trimmed_lengths(found.root / "dev" / "wav", sorted(names), n_jobs=jobs)
        if short := int((lengths <= rc["min_samples"]).sum()):
            sentence = f"{short} of {len(names)} training utterances are left out: after trimming silence they have no "
            found.remarks.append(f"{sentence}more than {DATA}.min_samples {rc['min_samples']} samples")
        usable = zip(sorted(everyone), lengths > rc["min_samples"], strict=True)
        if none := sorted({_speaker(file) for file in everyone} - {_speaker(file) for file, long in usable if long}):
            what = counted(len(none), "speaker has", "speakers have")
            found.remarks.append(f"{what} no longer utterance, so that a class has no data (such as {none[0]})")
    if rc["too_short"] == "untrimmed":
        return
    tested = next((part.files for part in found.parts if part.name == "test"), [])
    names = [file.removeprefix("test/wav/") for file in tested if file not in broken]
    for name, length in zip(names, trimmed_lengths(found.root / "test" / "wav", names, n_jobs=jobs), strict=True):
        need = found.needs[f"test/wav/{name}"]
        if length < need.samples:
            sentence = f"test/wav/{name} has {length} samples after trimming silence, "
            sentence += f"fewer than the {need.samples} that {need.why}"
            sentence += f"; set {DATA}.too_short: untrimmed, or remove its trials."
            found.problems.append(Problem("head", f"test/wav/{name}", sentence))


def _speaker(file: str) -> str:
    return file.split("/", 3)[2]


def _check_crop(found: Survey, rc: Mapping[str, Any], least: int) -> None:
    """What is left of training utterances must suffice for the head."""
    for key, samples in (("max_timestep", rc["max_timestep"]), ("min_samples", rc["min_samples"] + 1)):
        if samples is not None and samples < least:
            sentence = f"config key {DATA}.{key} allows utterances of {samples} samples, but the head needs {least}."
            found.problems.append(Problem("config", key, sentence, False))


def _held_out(found: Survey, rc: Mapping[str, Any], speakers: set[str]) -> set[str]:
    """The speakers of the dev set."""
    if rc["protocol"] != "dev" or not speakers:
        return set()
    try:
        return set(hold_out(sorted(speakers), rc["held_out"], seed=rc["split_seed"]))
    except ElpError as error:
        found.problems.append(Problem("speakers", "dev/wav", f"{error}.", False))
        return set()


def _trials(found: Survey, rc: Mapping[str, Any], members: list[str]) -> list[str]:
    """Compare the trial list with the test files; return those that it names."""
    path = Path(rc["trials"]).expanduser() if rc["trials"] else found.root / TRIALS_FILE
    if not path.is_file():
        sentence = f"the trial list {path} is missing; get it from {TRIALS_SOURCE} or set {DATA}.trials."
        found.problems.append(Problem("layout", str(path), sentence, False))
        return members
    read = voxceleb1.place_trials(found.root, voxceleb1.read_trials(path), closed={})  # they are problems already
    there = {file.removeprefix("test/wav/") for file in members}
    found.problems += voxceleb1.trial_problems(path.name, read, root=found.root, there=there)
    used = set(read.utterances)
    found.remarks.append(f"{path.name}: {len(read.trials):,} trials of {len(used):,} files")
    return [f"test/wav/{name}" for name in sorted(used & there)]
