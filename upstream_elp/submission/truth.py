"""The true answers of the test sets: from the corpora, from files that runs write, or for SV only from the names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.base import settings, texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import AUDIO_KINDS, HARMLESS, refuse
from upstream_elp.corpora import fluent, iemocap, librispeech, voxceleb1
from upstream_elp.corpora.registry import corpus_root
from upstream_elp.corpora.trials import read_trials
from upstream_elp.submission.layout import FOLDS, Part

_NAME = r"(id\d{5})-.+-\d{5}"
_PAIR = re.compile(f"{_NAME}_{_NAME}")
_PASSED = HARMLESS | AUDIO_KINDS | {"missing-label"}
"""Audio is not needed to know the answers."""


@dataclass(frozen=True)
class Truth:
    """The true answers of one part.

    Attributes:
        answers: the answer of each key; of SV `1` for the same speaker, `0` for two.
        source: where they are from, for messages.
        speakers: the speaker of each key, if the key does not say it.
    """

    answers: dict[str, str]
    source: str
    speakers: dict[str, str] = field(default_factory=dict)


def find_truth(part: Part, folder: Path | None = None) -> Truth | None:
    """Return the true answers from a folder of truth files, or else from the corpora.

    Args:
        part: the part of the submission.
        folder: a folder of truth files; if None, the corpora below `$ELP_DATA` are read.

    Returns:
        None if there is neither a folder nor `$ELP_DATA`.

    Raises:
        ElpError: the folder or the corpus lacks something or is damaged.
    """
    if folder is not None:
        return _from_folder(part, folder)
    return _from_corpus(part) if settings.current().data else None


def comparability(truths: Mapping[Part, Truth]) -> str:
    """Say which test sets are not SUPERB's, as their sizes differ; an empty string if none is known to be another."""
    others = [
        f"{part.name} has {counted(len(truth.answers), 'key')} (SUPERB's has {part.official:,})"
        for part, truth in truths.items()
        if len(truth.answers) != part.official
    ]
    return f"these scores cannot be compared with SUPERB's, as {', '.join(others)}" if others else ""


def speakers_in(pair: str) -> tuple[str, str] | None:
    """Return the two speakers that the key of an SV trial names; None for another form."""
    found = _PAIR.fullmatch(pair)
    return (found[1], found[2]) if found else None


def speaker_of(part: Part, key: str, truth: Truth) -> str:
    """Return the speaker of an utterance; an empty string if neither the key nor the corpus says it."""
    if part.task in ("asr", "asr_lm"):
        return librispeech.speaker_of(key)
    return iemocap.speaker_of(key) if part.task == "er" else truth.speakers.get(key, "")


def from_names(pairs: Iterable[str], part: Part, *, where: str) -> Truth:
    """Return the answers of SV trials from their names, which say whether both speakers are the same.

    In SUPERB's list, the labels of all trials agree with the names. That the list is complete can only be seen from its
    length.

    Raises:
        ElpError: a name of another form, or another number of trials than SUPERB's.
    """
    answers = {}
    for pair in pairs:
        speakers = speakers_in(pair)
        if speakers is None:
            raise ElpError(
                f"{where}: a key must be id00000-video-00000_id00000-video-00000, but is {pair}; pass --data or --truth"
            )
        answers[pair] = str(int(speakers[0] == speakers[1]))
    if len(answers) != part.official:
        raise ElpError(
            f"{where} must contain {part.official:,} trials, but has {len(answers):,} (the site would silently score "
            "these); evaluate again, or pass --data or --truth if it is not SUPERB's list"
        )
    return Truth(answers, "the names of the trials")


def _from_folder(part: Part, folder: Path) -> Truth:
    """Read a file as runs write it; for SV also a trial list, as S3PRL's own `test_truth.txt` is empty."""
    path = folder / part.truth
    if part.task == "asr_lm" and not path.is_file():
        path = folder / part.truth.replace("-LM-", "-noLM-")
    if part.task == "sv" and not (path.is_file() and path.stat().st_size):
        lists = [folder / name for name in voxceleb1.LISTS if (folder / name).is_file()]
        if lists:
            return _trials(lists[0])
    if not path.is_file():
        also = f" or {voxceleb1.LISTS[0]}" if part.task == "sv" else ""
        raise ElpError(f"--truth {folder} must contain {part.truth}{also}, but does not; pass another folder or --data")
    answers: dict[str, str] = {}
    for number, line in enumerate(texts.lines(texts.read_text(path)), start=1):
        key, _, answer = line.strip().partition(part.separator)
        if not key or key in answers:
            what = f"has the key {key} again" if key else "is empty"
            raise ElpError(f"{path} line {number} must be a new key and its answer, but {what}; evaluate again")
        answers[key] = answer
    if not answers:
        raise ElpError(f"{path} must contain true answers, but is empty; pass another folder or --data")
    return Truth(answers, str(path))


def _from_corpus(part: Part) -> Truth:
    if part.task in ("asr", "asr_lm"):
        root = corpus_root({}, librispeech.CORPUS.name)
        reading = librispeech.read_part(root, "test-clean")
        reading.refuse(root, passed=_PASSED)
        return _unique(part, root / "test-clean", ((row.name, row.text or "") for row in reading.rows))
    if part.task == "sv":
        root = corpus_root({}, voxceleb1.CORPUS.name)
        path = root / voxceleb1.LISTS[0]
        if not path.is_file():
            raise ElpError(f"the trial list {path} must exist, but does not; get it from openslr.org/49")
        return _trials(path)
    if part.task == "er":
        root = corpus_root({}, iemocap.CORPUS.name)
        session = iemocap.SESSIONS[FOLDS.index(part.name.split("_")[1])]
        found = iemocap.read_session(root, session)
        found.refuse(root, passed=_PASSED)
        return _unique(part, root / session, ((row.name, row.label) for row in found.rows))
    root = corpus_root({}, fluent.CORPUS.name)
    name = fluent.table_name("test")
    rows, problems = fluent.read_table(root / name, name=name)
    refuse(problems, root)
    truth = _unique(part, root / name, ((row.name, ",".join(row.slots)) for row in rows))
    truth.speakers.update({row.name: row.speaker for row in rows})
    return truth


def _trials(path: Path) -> Truth:
    read = read_trials(path)
    if read.fault or read.bad_lines:
        number, text = next(iter(read.bad_lines), (1, read.fault))
        raise ElpError(f"{path} line {number} must be a trial (label, path, path), but is {text[:80]!r}; repair it")
    answers = {trial.name: str(trial.label) for trial in read.trials}
    if len(answers) < len(read.trials):
        raise ElpError(f"{path} must contain every trial once, but {len(read.trials) - len(answers)} appear again")
    return Truth(answers, str(path))


def _unique(part: Part, where: Path, rows: Iterable[tuple[str, str]]) -> Truth:
    answers: dict[str, str] = {}
    for key, answer in rows:
        if key in answers:
            raise ElpError(
                f"{where} must name every utterance once, but {key} appears twice, so {part.name} cannot be scored; "
                "repair the corpus"
            )
        answers[key] = answer
    if not answers:
        raise ElpError(f"{where} must contain utterances, but is empty; repair the corpus")
    return Truth(answers, str(where))
