"""A task on a user's own data: the rows of a manifest, and their survey."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downstream_heads.common.size import limited
from downstream_heads.common.survey import Part, Survey
from downstream_heads.contract import Task
from upstream_elp.base.problems import AUDIO_KINDS, HARMLESS, Problem
from upstream_elp.corpora import manifest
from upstream_elp.corpora.manifest import Own, Row

__all__ = ["Own", "Row", "classes", "read_own", "survey_own", "usable"]


def read_own(
    about: Task,
    source: Path,
    *,
    needed: Sequence[str],
    labels: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Own:
    """Read a manifest for a task.

    Args:
        about: the task.
        source: the manifest.
        needed: full names of splits that must have rows.
        labels: the columns of the labels.
        columns: other columns of which every row needs a value.
    """
    found = manifest.read(source, splits=about.split_names, needed=needed, labels=labels, columns=columns)
    found.problems += manifest.label_problems(found, labels)
    return found


def usable(found: Own, *, skips: bool, passed: frozenset[str] = frozenset()) -> Own:
    """Return a manifest without problems; missing audio is accepted if bad files are skipped.

    Raises:
        ElpError: names the problems.
    """
    found.refuse(found.manifest, passed=HARMLESS | passed | (AUDIO_KINDS if skips else frozenset()))
    return found


def classes(rows: Sequence[Row], place: int = 0) -> list[str]:
    """Return the values of a label column, sorted, so that their order does not depend on that of the rows."""
    return sorted({row.labels[place] for row in rows})


def survey_own(about: Task, found: Own, splits: Sequence[str], options: Mapping[str, Any]) -> Survey:
    """Return the survey of a manifest; speakers in two splits are a warning, as they may be meant.

    Args:
        about: the task.
        found: its rows.
        splits: full names of the splits to survey.
        options: the checked data block.
    """
    survey = Survey(about.name, found.root, resample=options["resample"], mix=options["channels"] != "error")
    survey.add(found)
    survey.warnings += [f"{sentence}; the result is then not that for new speakers" for sentence in found.shared]
    for split in splits:
        rows = found.of.get(split, [])
        if split == "train":
            rows = limited(found.root, rows, options)
        speakers = [row.speaker for row in rows if row.speaker]
        labels = ["/".join(row.labels) for row in rows if row.labels]
        survey.parts.append(Part(split, [row.path for row in rows], speakers, labels))
    return survey


def shared_speakers(found: Own) -> list[Problem]:
    """Return speakers in two splits as problems, for a task that must not know its test speakers."""
    name = found.manifest.name
    advice = f"; keep every speaker in one split (`elp split {name} OUT{found.manifest.suffix}` does)."
    return [Problem("speakers", name, sentence + advice, False) for sentence in found.shared]
