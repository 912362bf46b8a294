"""IEMOCAP: who said what with which emotion, from the official layout or from S3PRL's metadata files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.options import problem_list
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import locate
from upstream_elp.base.texts import read_text
from upstream_elp.corpora.iemocap import CLASSES as LABELS
from upstream_elp.corpora.iemocap import PARTLY, SESSIONS, Utterance, read_session


@dataclass(frozen=True)
class Fold:
    """The utterances of one fold: four sessions to train on, one to test on, and the classes."""

    train: list[Utterance]
    test: list[Utterance]
    labels: dict[str, int]


def read_fold(
    root: Path,
    session: str,
    *,
    meta_data: str | Path | None = None,
    missing: str = "error",
    keep_absent: bool = False,
) -> Fold:
    """Hold one session out.

    Args:
        root: corpus root.
        session: the session to test on, such as ``Session3``.
        meta_data: folder of S3PRL's ``<session>/{train,test}_meta_data.json``; their order is kept, because S3PRL's dev
            set depends on it. Without it the corpus itself is read, sorted by path.
        missing: ``error`` or ``skip`` utterances without audio or without label.
        keep_absent: keep labelled utterances whose audio is not there: whoever reads them decides.

    Raises:
        ElpError: a session, file, label or audio is missing; all problems are told.
    """
    if meta_data:
        folder = Path(meta_data) / session
        train, labels = read_meta(folder / "train_meta_data.json")
        test, test_labels = read_meta(folder / "test_meta_data.json")
        if labels != test_labels:
            raise ElpError(f"the metadata files in {folder} number their labels differently")
        train, test = (on_disk(root, rows, keep_absent=keep_absent) for rows in (train, test))
        return Fold(train, test, labels)
    absent = [name for name in SESSIONS if not (root / name).is_dir()]
    if absent:
        raise ElpError(f"{root} lacks {', '.join(absent)}; leave-one-session-out needs Session1 to Session5")
    rows = {name: usable(root, name, missing=missing, keep_absent=keep_absent) for name in SESSIONS}
    train = [row for name in SESSIONS if name != session for row in rows[name]]
    return Fold(train, rows[session], dict(LABELS))


def usable(root: Path, session: str, *, missing: str = "error", keep_absent: bool = False) -> list[Utterance]:
    """The usable utterances of one session, sorted by path. Excited counts as happy.

    Raises:
        ElpError: a dialog without evaluation file, audio without label or a label without audio (unless skipped), a
            malformed line, or no usable utterance.
    """
    found = read_session(root, session)
    passed = set(PARTLY) if missing == "skip" else {PARTLY[1]} if keep_absent else set()
    problems = [problem.text.rstrip(".") for problem in found.problems if problem.kind not in passed]
    if problems:
        raise ElpError(f"{root / session} is not complete: {problem_list(problems)}")
    rows = [*found.rows, *(found.absent if keep_absent else [])]
    if not rows:
        raise ElpError(f"{root / session} has no utterance labelled {', '.join(LABELS)} or exc")
    return sorted(rows, key=lambda row: row.path)


def read_meta(path: Path) -> tuple[list[Utterance], dict[str, int]]:
    """The utterances of one of S3PRL's metadata files, and its classes.

    Raises:
        ElpError: it is missing, of another form, empty, or uses labels that it does not declare.
    """
    if not path.is_file():
        raise ElpError(f"metadata file {path} does not exist; leave datarc.meta_data empty to read the corpus itself")
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


def on_disk(root: Path, rows: Sequence[Utterance], *, keep_absent: bool) -> list[Utterance]:
    """The same utterances with the names that their files have on disk.

    Raises:
        ElpError: folders cannot be listed, or audio is missing and not to be kept.
    """
    found = locate(root, (row.path for row in rows))
    absent = [str(root / name) for name, there in found.items() if there is None]
    if absent and not keep_absent:
        raise ElpError(f"{root} lacks audio named by the metadata: {problem_list(absent)}")
    return [replace(row, path=found[row.path] or row.path) for row in rows]


def split_dev(rows: Sequence[Utterance], *, ratio: float, seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Draw the dev set from the training sessions.

    With seed 0 this is S3PRL's draw for the same order of rows (downstream/emotion/expert.py:47-52), but from an own
    generator: the global random state, and with it ``--seed``, stays untouched.

    Returns:
        ``(train, dev)`` in the order of the draw.

    Raises:
        ElpError: one of the two would be empty.
    """
    kept = int((1 - ratio) * len(rows))
    if not 0 < kept < len(rows):
        raise ElpError(f"config key datarc.valid_ratio {ratio} leaves {kept} of {len(rows)} utterances to train on")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in order[:kept]], [rows[i] for i in order[kept:]]


class Emotions(Dataset):
    """Utterances of one split; an item is ``(wav, class index, name)``.

    Args:
        root: corpus root.
        rows: the utterances.
        labels: class names to indices.
        audio: reads the files.
        crop: keep at most this many samples from the start; None keeps all.
    """

    def __init__(
        self,
        root: Path,
        rows: Sequence[Utterance],
        *,
        labels: dict[str, int],
        audio: AudioReader,
        crop: int | None = None,
    ) -> None:
        self.root, self.rows, self.labels, self.audio, self.crop = root, list(rows), labels, audio, crop

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[Path]:
        """The audio files of the split."""
        return [self.root / row.path for row in self.rows]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        row = self.rows[index]
        return self.audio(self.root / row.path)[: self.crop].numpy(), self.labels[row.label], row.name
