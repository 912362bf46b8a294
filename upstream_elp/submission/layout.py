"""The parts of a submission to SUPERB's public set: which files of a run go where, and the form of their lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from upstream_elp.corpora.iemocap import CLASSES, OFFICIAL, SESSIONS
from upstream_elp.corpora.librispeech import OFFICIAL_FILES

TOP = "predict"
"""The folder in the zip that contains everything."""
FOLDS = tuple(f"fold{number}" for number in range(1, len(SESSIONS) + 1))
MOST_BYTES = 50 * 2**20
"""The site takes smaller files only."""


@dataclass(frozen=True)
class Part:
    """One file of predictions in a submission.

    Attributes:
        name: the site's name of the task, which is also the folder in the zip.
        task: the flag of `elp submit` without dashes: `asr`, `asr_lm`, `sv`, `er` or `ic`.
        written: the file's name in the folder of a run.
        truth: the name of the file of true answers, as runs write it.
        packed: the file's name in the zip.
        official: how many utterances (trials in SV) the real test set has.
        what: the test set.
        fault: what is wrong with an answer, worded to follow it; an empty string for a right one.
        separator: what stands between the key and the answer.
    """

    name: str
    task: str
    written: str
    truth: str
    packed: str
    official: int
    what: str
    fault: Callable[[str], str]
    separator: str = " "

    @property
    def path(self) -> str:
        """The file's path in the zip."""
        return f"{TOP}/{self.name}/{self.packed}"


def _words_fault(text: str) -> str:
    if text != " ".join(text.split()):
        return "must separate words by single spaces"
    plain = re.sub("<[a-z]+>", "", text)  # a model may write <unk>
    return "" if plain == plain.upper() else "must be upper case, as the references are"


def _score_fault(text: str) -> str:
    try:
        finite = math.isfinite(float(text))
    except ValueError:
        finite = False
    return "" if finite and re.fullmatch(r"[-+.\deE]+", text) else "must be a finite number"


def _emotion_fault(text: str) -> str:
    return "" if text in CLASSES else f"must be one of {', '.join(CLASSES)}"


def _intent_fault(text: str) -> str:
    values = text.split(",")
    right = len(values) == 3 and all(value and value == value.strip() for value in values)
    return "" if right else "must be action,object,location"


_CLEAN = ("LibriSpeech's test-clean", _words_fault)
PARTS: tuple[Part, ...] = (
    Part(
        "asr_public",
        "asr",
        "test-clean-noLM-hyp.ark",
        "test-clean-noLM-ref.ark",
        "predict.ark",
        OFFICIAL_FILES["test-clean"],
        *_CLEAN,
    ),
    Part(
        "asr_lm_public",
        "asr_lm",
        "test-clean-LM-hyp.ark",
        "test-clean-LM-ref.ark",
        "predict.ark",
        OFFICIAL_FILES["test-clean"],
        *_CLEAN,
    ),
    Part(
        "sv_public",
        "sv",
        "test_predict.txt",
        "test_truth.txt",
        "predict.txt",
        37_720,
        "VoxCeleb1's trial list voxceleb1_test_v2.txt",
        _score_fault,
    ),
    *(
        Part(
            f"er_{fold}_public",
            "er",
            f"test_{fold}_predict.txt",
            f"test_{fold}_truth.txt",
            "predict.txt",
            OFFICIAL[session],
            f"IEMOCAP's {session}",
            _emotion_fault,
        )
        for fold, session in zip(FOLDS, SESSIONS, strict=True)
    ),
    Part(
        "ic_public",
        "ic",
        "test_predict.csv",
        "test_truth.csv",
        "predict.csv",
        3_793,
        "Fluent Speech Commands' test table",
        _intent_fault,
        ",",
    ),
)
BY_NAME = {part.name: part for part in PARTS}
BY_PATH = {part.path: part for part in PARTS}
TASKS = tuple(dict.fromkeys(part.task for part in PARTS))


def parts_of(task: str) -> list[Part]:
    """Return the parts of a task: five for `er`, one for the others."""
    return [part for part in PARTS if part.task == task]
