"""SV on a user's own data: speakers from a manifest, and trials that are drawn or read from a list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downstream_heads.common.own import Own, Row, read_own, shared_speakers
from downstream_heads.common.size import limited
from downstream_heads.elp_sv.about import TASK
from downstream_heads.elp_sv.corpus import VoxCeleb
from downstream_heads.elp_sv.options import DATA
from downstream_heads.elp_sv.trials import Trial, drawing, make_trials
from upstream_elp.audio.segments import file_of
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import Problem, refuse
from upstream_elp.corpora.manifest import SPEAKER, spelled
from upstream_elp.corpora.trials import LABELS


class OwnTrial(Trial):
    """A trial of two utterances that are named by their paths; spaces in these are written as ``%20``."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Both names."""
        return "_".join(map(spelled, (self.first, self.second)))

    def __str__(self) -> str:
        return " ".join((str(self.label), *map(spelled, (self.first, self.second))))


def read_speakers(source: Path, *, needed: Sequence[str]) -> Own:
    """Read a manifest; speakers in two splits are problems, as the result would not be that for new speakers."""
    found = read_own(TASK, source, needed=needed, columns=[SPEAKER])
    found.problems += shared_speakers(found)
    speakers = {row.speaker for row in found.of["train"]}
    if len(speakers) == 1:
        sentence = f"{source.name} has only the speaker {min(speakers)!r} in train; training needs at least two."
        found.problems.append(Problem("speakers", source.name, sentence, False))
    return found


class OwnVoices(VoxCeleb):
    """A manifest under a protocol; with the protocol ``dev``, its split dev has the held-out speakers.

    Utterances are named by their paths. The arguments are those of :class:`VoxCeleb`, with the manifest as ``root``.
    """

    def _read(self) -> None:
        dev = self.options["protocol"] == "dev"
        self.own = read_speakers(self.root, needed=["train", "dev"] if dev else ["train"])
        self.own.refuse(self.root, passed=self.passed)
        self.root = self.train_folder = self.test_folder = self.own.root
        of = self.own.of
        self.speakers = sorted({row.speaker for row in of["train"]})
        self.held_out = sorted({row.speaker for row in of["dev"]}) if dev else []
        train = limited(self.own.root, of["train"], self.options)
        self._everything = [row.path for row in (*train, *(of["dev"] if dev else ()))]
        self._of = {row.path: row.speaker for row in self.own.rows}

    def speaker_of(self, name: str) -> str:
        """Return the speaker of an utterance."""
        return self._of[name]

    def trials(self, split: str) -> list[Trial]:
        """Return the trials: of test, those of the list in the config; otherwise drawn from the speakers."""
        rows = self.own.rows_of(split)
        if split == "dev":
            self.need_dev()
        elif self.options["trials"] is not None:
            trials, problems = read_list(self.own, self.options)
            refuse(problems, self.own.manifest, passed=self.passed)
            return trials
        names = self.names(held_out=True) if split == "dev" else [row.path for row in rows]
        return draw(names, self._of, split=split, manifest=self.own.manifest, options=drawing(self.options))


def draw(
    names: Sequence[str], of: Mapping[str, str], *, split: str, manifest: Path, options: Mapping[str, int]
) -> list[Trial]:
    """Draw trials of a split.

    Args:
        names: its utterances.
        of: the speaker of each.
        split: its name.
        manifest: the manifest, for messages.
        options: ``per_speaker``, ``limit`` and ``seed`` of :func:`make_trials`.

    Raises:
        ElpError: there are fewer than two speakers, or no speaker has two utterances.
    """
    whose = f"the speakers in {split} of {manifest.name}"
    advice = "add utterances" if split == "test" else f"add utterances, or lower {DATA}.min_samples"
    drawn = make_trials(names, speaker=of.__getitem__, recording=file_of, whose=whose, advice=advice, **options)
    return [OwnTrial(*trial) for trial in drawn]


def list_path(own: Own, options: Mapping[str, Any]) -> Path:
    """Return the path of the trial list, which may be relative to the manifest's folder."""
    path = Path(options["trials"]).expanduser()
    return path if path.is_file() else own.root / path


def read_list(own: Own, options: Mapping[str, Any]) -> tuple[list[Trial], list[Problem]]:
    """Read a list of trials of test: on each line a label and two paths as in the manifest, in between spaces or tabs.

    Returns:
        The trials, and the problems of the list.
    """
    path = list_path(own, options)
    if not path.is_file():
        sentence = f"the trial list {path} ({DATA}.trials) is missing; correct its path, or remove the key."
        return [], [Problem("layout", path.name, sentence, False)]
    content, fault = texts.read(path)
    problems = [Problem("encoding", path.name, f"{path.name} {fault}.", False)] if fault else []
    known = {name: row for row in own.of["test"] for name in (row.path, row.name)}
    trials: list[Trial] = []
    for number, line in enumerate(texts.lines(content), start=1):
        if line.strip():
            trial, wrong = _trial(line, known)
            trials += [trial] if trial else []
            problems += [Problem("trial", path.name, f"{path.name} line {number} {wrong}.", False)] if wrong else []
    if {trial.label for trial in trials} != {0, 1} and not problems:
        sentence = f"{path.name} must contain trials of the same speaker and of different speakers."
        problems.append(Problem("trial", path.name, sentence, False))
    return trials, problems


def _trial(line: str, known: Mapping[str, Row]) -> tuple[Trial | None, str]:
    """Return the trial on a line, or what is wrong with it."""
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    if len(fields) == 3 and fields[0] not in LABELS:
        fields = [fields[2], *fields[:2]]
    if len(fields) != 3 or fields[0] not in LABELS:
        return None, f"must be a label (1 or 0) and two paths, but is {line.strip()[:80]!r}"
    rows = [known.get(os.path.normpath(field)) for field in fields[1:]]
    for row, field in zip(rows, fields[1:], strict=True):
        if row is None:
            return None, f"names {field}, which is not in test in the manifest"
    first, second = rows
    trial = OwnTrial(LABELS[fields[0]], first.path, second.path)
    if trial.label != (first.speaker == second.speaker):
        return None, f"has the label {fields[0]}, which contradicts the speakers {first.speaker} and {second.speaker}"
    return trial, ""


def trial_problems(own: Own, rc: Mapping[str, Any]) -> tuple[list[Row], list[Problem], list[str]]:
    """Return the test rows that are in trials, and problems and remarks on the trials."""
    rows = own.of["test"]
    if rc["trials"] is not None:
        trials, problems = read_list(own, rc)
        used = {name for trial in trials for name in (trial.first, trial.second)}
        remark = f"{list_path(own, rc).name}: {counted(len(trials), 'trial')} of {counted(len(used), 'file')}"
        return [row for row in rows if row.path in used], problems, [remark]
    of = {row.path: row.speaker for row in rows}
    try:
        drawn = draw(list(of), of, split="test", manifest=own.manifest, options=drawing(rc)) if rows else []
    except ElpError as error:
        return rows, [Problem("trial", own.manifest.name, f"{error}.", False)], []
    used = {name for trial in drawn for name in (trial.first, trial.second)}
    remark = f"{counted(len(drawn), 'trial')} of {counted(len(used), 'test utterance')} drawn ({DATA}.split_seed)"
    return [row for row in rows if row.path in used], [], [remark]
