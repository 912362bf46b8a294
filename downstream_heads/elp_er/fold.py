"""A fold of IEMOCAP, read from the corpus itself or from S3PRL's metadata files.

A fold holds one session out, or a random fifth of all utterances, as the L-E reference does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem
from upstream_elp.base.texts import read_text
from upstream_elp.corpora import checks
from upstream_elp.corpora.iemocap import CLASSES, PARTLY, SESSIONS, Utterance, class_problems, read_session
from upstream_elp.corpora.reading import Reading


@dataclass
class Fold(Reading[Utterance]):
    """The contents of one fold.

    Attributes:
        train: the utterances of four sessions, or four fifths of all.
        test: the utterances of the held-out session, or a fifth of all.
        labels: the classes and their numbers.
    """

    train: list[Utterance] = field(default_factory=list)
    test: list[Utterance] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


RANDOM_SEED = 42
"""Seed of the random folds in the L-E reference."""


def find_fold(
    root: Path,
    session: str,
    *,
    meta_data: str | Path | None,
    missing: str,
    keep_absent: bool = False,
    folds: str = "session",
) -> Fold:
    """Read one fold, with its problems.

    Args:
        root: corpus root.
        session: the session to test on, such as ``Session3``; with random folds, its number is that of the fold.
        meta_data: folder of S3PRL's ``<session>/{train,test}_meta_data.json``; their order is kept, because S3PRL's dev
            set depends on it. If None, the corpus itself is read, sorted by path.
        missing: ``skip`` ignores utterances without audio or label.
        keep_absent: keep labelled utterances without audio, and leave it to the reader what to do with them.
        folds: ``session``, or ``random`` for fifths of all utterances, whose speakers overlap.
    """
    if meta_data:
        return _from_tables(root, session, Path(meta_data) / session)
    fold = Fold(labels=dict(CLASSES))
    passed = PARTLY if missing == "skip" else ()
    for name in SESSIONS:
        found = read_session(root, name)
        fold.problems += [problem for problem in found.problems if problem.kind not in passed]
        fold.remarks += found.remarks
        fold.gone |= found.gone
        part = fold.test if name == session else fold.train
        part += found.rows if keep_absent else found.present
    if folds == "random" and fold.train and fold.test:
        fold.train, fold.test = random_fold([*fold.train, *fold.test], SESSIONS.index(session))
    fold.rows = [*fold.train, *fold.test]
    fold.problems += class_problems(session, fold.train) if fold.train else []
    return fold


def random_fold(rows: Sequence[Utterance], number: int) -> tuple[list[Utterance], list[Utterance]]:
    """Return training and test part of one of five random folds, each sorted by path.

    The draw is that of the L-E reference; the order of utterances in its table is not public, so the folds need not
    contain the same ones.

    Args:
        rows: all utterances.
        number: the fold, from 0.
    """
    from sklearn.model_selection import KFold  # takes long to import, and few runs need it

    ordered = sorted(rows, key=lambda row: row.path)
    parts = list(KFold(5, shuffle=True, random_state=RANDOM_SEED).split(ordered))[number]
    train, test = ([ordered[place] for place in part] for part in parts)
    return train, test


def _from_tables(root: Path, session: str, folder: Path) -> Fold:
    """Read the two metadata files of a fold; an utterance in both is a problem."""
    fold = Fold()
    rows: dict[str, list[Utterance]] = {}
    numbers = []
    for part in ("train", "test"):
        path = folder / f"{part}_meta_data.json"
        try:
            rows[part], labels = read_meta(path)
            numbers.append(labels)
        except ElpError as error:
            rows[part] = []
            fold.problems.append(Problem("table", str(path), f"{error}.", False))
    fold.labels = numbers[0] if numbers else {}
    if len(numbers) == 2 and numbers[0] != numbers[1]:
        sentence = f"the metadata files in {folder} number their labels differently."
        fold.problems.append(Problem("table", str(folder), sentence, False))
    _place_audio(fold, root, rows)
    for path in sorted({row.path for row in fold.train} & {row.path for row in fold.test}):
        fold.problems.append(Problem("overlap", path, f"{path} is in the training and in the test metadata.", False))
    tested = sorted({row.label for row in fold.test})
    fold.problems += class_problems(session, fold.train, classes=tested) if fold.train else []
    return fold


def _place_audio(fold: Fold, root: Path, rows: dict[str, list[Utterance]]) -> None:
    """Set the paths of utterances as on disk; a missing file is a problem."""
    closed: dict[str, str] = {}
    there = locate(root, (row.path for some in rows.values() for row in some), closed=closed)
    fold.gone = {path for path, name in there.items() if name is None or path.rpartition("/")[0] in closed}
    cause = "files in the metadata are missing"
    absent = {
        path: Problem("missing-audio", path, f"{path} is missing, but is in the metadata.", cause=cause)
        for path in fold.gone
    }
    fold.problems += checks.closed_problems(closed) + absent_problems(root, absent)
    fold.train, fold.test = (
        [replace(row, path=there[row.path] or row.path) for row in rows[part]] for part in ("train", "test")
    )
    fold.rows = [*fold.train, *fold.test]


def read_meta(path: Path) -> tuple[list[Utterance], dict[str, int]]:
    """Read one of S3PRL's metadata files: its utterances and its classes.

    Raises:
        ElpError: it is missing, malformed, empty, or uses labels that it does not declare.
    """
    if not path.is_file():
        raise ElpError(f"metadata file {path} does not exist; remove datarc.meta_data to read the corpus itself")
    try:
        content = json.loads(read_text(path, name=f"metadata file {path}"))
        labels = {str(name): int(index) for name, index in content["labels"].items()}
        rows = [Utterance(row["path"], row["label"], row.get("speaker", "")) for row in content["meta_data"]]
    except ElpError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElpError(
            f"metadata file {path} is not S3PRL's {{labels, meta_data: [path, label]}}: {error!r}"
        ) from error
    unknown = sorted({str(row.label) for row in rows} - labels.keys())
    if unknown or not rows:
        raise ElpError(f"metadata file {path} " + (f"uses undeclared labels {unknown}" if unknown else "is empty"))
    if sorted(labels.values()) != list(range(len(labels))):
        raise ElpError(f"metadata file {path} must number its labels 0, 1, …")
    return rows, labels
