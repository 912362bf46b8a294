"""IEMOCAP: the utterances of a fold, the draw of the dev set, and the data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from downstream_heads.common.lengths import Rows
from downstream_heads.common.loaders import AudioReader
from downstream_heads.elp_er.fold import Fold, find_fold
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import AUDIO_KINDS, HARMLESS
from upstream_elp.corpora.iemocap import CLASSES as LABELS
from upstream_elp.corpora.iemocap import Utterance

__all__ = ["LABELS", "Emotions", "Fold", "Utterance", "divide", "read_fold", "split_dev"]


def read_fold(
    root: Path,
    session: str,
    *,
    meta_data: str | Path | None = None,
    missing: str = "error",
    keep_absent: bool = False,
) -> Fold:
    """Return a usable fold; the arguments are those of :func:`downstream_heads.elp_er.fold.find_fold`.

    Raises:
        ElpError: a session, file, label or audio is missing; names all problems.
    """
    fold = find_fold(root, session, meta_data=meta_data, missing=missing, keep_absent=keep_absent)
    fold.refuse(root, passed=HARMLESS | AUDIO_KINDS if keep_absent else HARMLESS)
    return fold


def split_dev(rows: Sequence[Utterance], *, ratio: float, seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Draw the dev set from the training sessions.

    With seed 0 this is S3PRL's draw for the same order of rows (downstream/emotion/expert.py:47-52), but from its own
    generator: it does not touch the global random state or depend on ``--seed``.

    Returns:
        ``(train, dev)``, in the order drawn.

    Raises:
        ElpError: one of the two would be empty.
    """
    kept = int((1 - ratio) * len(rows))
    if not 0 < kept < len(rows):
        raise ElpError(
            f"config key downstream_expert.datarc.valid_ratio is {ratio}, which leaves {kept} of {len(rows)} "
            "utterances for training; both training and dev need some"
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in order[:kept]], [rows[i] for i in order[kept:]]


def divide(
    rows: Sequence[Utterance], options: Mapping[str, Any], *, session: str
) -> tuple[list[Utterance], list[Utterance]]:
    """Divide the training sessions into training and dev set as the task's options say.

    Args:
        rows: the utterances of the training sessions.
        options: ``dev_session``, or else ``valid_ratio`` and ``split_seed``.
        session: the test session of the fold.

    Returns:
        ``(train, dev)``.

    Raises:
        ElpError: one of the two would be empty, or the dev set is the test session.
    """
    chosen = options["dev_session"]
    if chosen is None:
        return split_dev(rows, ratio=float(options["valid_ratio"]), seed=options["split_seed"])
    if chosen == session:
        raise ElpError(
            f"config key downstream_expert.datarc.dev_session is {chosen}, which is the test set of this fold; choose "
            "another session"
        )
    parts: tuple[list[Utterance], list[Utterance]] = ([], [])
    for row in rows:
        parts[row.path.split("/")[0] == chosen].append(row)
    if not all(parts):
        raise ElpError(
            f"config key downstream_expert.datarc.dev_session is {chosen}, but the fold has no utterance in "
            f"{'other training sessions' if parts[1] else 'it'}; choose another session"
        )
    return parts


class Emotions(Rows):
    """Utterances of one split; an item is ``(wav, class index, name)``.

    Args:
        root: corpus root.
        rows: the utterances.
        labels: class name -> index.
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
        super().__init__(root, rows, crop=crop)
        self.labels, self.audio = labels, audio

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        row = self.rows[index]
        return self.audio(self.root / row.path)[: self.crop].numpy(), self.labels[row.label], row.name
