"""What ER finds in IEMOCAP before it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from downstream_heads.common.options import mapping
from downstream_heads.common.roots import corpus_root
from downstream_heads.common.survey import Part, Survey
from downstream_heads.common.utterance import data_options
from downstream_heads.elp_er.about import TASK
from downstream_heads.elp_er.data import read_meta, split_dev
from downstream_heads.elp_er.task import DATA_DEFAULTS, choose_fold
from upstream_elp.audio.formats import absent_problems
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks, iemocap
from upstream_elp.corpora.iemocap import Utterance
from upstream_elp.corpora.librispeech import stem


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Look at the five sessions, or at S3PRL's metadata files.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits.
        variant: the fold, as ``-v`` gives it.
        front: has no meaning here.

    Raises:
        ElpError: a wrong key, or no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key="downstream_expert.datarc"), DATA_DEFAULTS)
    session = choose_fold(variant, rc["test_fold"]).replace("fold", "Session")
    root = corpus_root(rc, TASK.corpus)
    found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
    if rc["meta_data"]:
        train, test = _from_tables(found, Path(rc["meta_data"]) / session)
    else:
        train, test = _from_corpus(found, session, skip=rc["missing"] == "skip")
    parts = {"test": test}
    try:
        parts["train"], parts["dev"] = split_dev(train, ratio=float(rc["valid_ratio"]), seed=rc["split_seed"])
    except ElpError as error:
        parts["train"], parts["dev"] = train, []
        found.problems.append(Problem("layout", session, f"{error}.", False))
    for split in splits:
        rows = parts[split]
        speakers = [iemocap.speaker_of(stem(row.path)) for row in rows]
        found.parts.append(Part(split, [row.path for row in rows], speakers, [row.label for row in rows]))
    lacking = sorted({row.label for row in test} - {row.label for row in train})
    if train and lacking:
        sentence = f"{session}: no training utterance is labelled {', '.join(lacking)}, but test utterances are."
        found.problems.append(Problem("classes", session, sentence, False))
    return found


def _from_corpus(found: Survey, session: str, *, skip: bool) -> tuple[list, list]:
    sessions = {name: iemocap.read_session(found.root, name) for name in iemocap.SESSIONS}
    passed = iemocap.PARTLY if skip else ()
    for one in sessions.values():
        found.problems += [problem for problem in one.problems if problem.kind not in passed]
        found.remarks += one.remarks
    train = [row for name, one in sessions.items() if name != session for row in one.rows]
    return train, sessions[session].rows


def _from_tables(found: Survey, folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """The two metadata files of a fold; an utterance in both is a problem."""
    rows: dict[str, list[Utterance]] = {}
    numbers = []
    for part in ("train", "test"):
        path = folder / f"{part}_meta_data.json"
        try:
            rows[part], labels = read_meta(path)
            numbers.append(labels)
        except ElpError as error:
            rows[part] = []
            found.problems.append(Problem("table", str(path), f"{error}.", False))
    if len(numbers) == 2 and numbers[0] != numbers[1]:
        sentence = f"the metadata files in {folder} number their labels differently."
        found.problems.append(Problem("table", str(folder), sentence, False))
    rows = _on_disk(found, rows)
    for path in sorted({row.path for row in rows["train"]} & {row.path for row in rows["test"]}):
        found.problems.append(Problem("overlap", path, f"{path} is in the training and in the test metadata.", False))
    return rows["train"], rows["test"]


def _on_disk(found: Survey, rows: dict[str, list[Utterance]]) -> dict[str, list[Utterance]]:
    """The utterances with the names that their files have on disk; what is missing is a problem."""
    closed: dict[str, str] = {}
    there = locate(found.root, (row.path for some in rows.values() for row in some), closed=closed)
    found.missing = {path for path, name in there.items() if name is None or path.rpartition("/")[0] in closed}
    cause = "files that the metadata name are missing"
    absent = {
        path: Problem("missing-audio", path, f"{path} is missing, but the metadata name it.", cause=cause)
        for path in found.missing
    }
    found.problems += checks.closed_problems(closed) + absent_problems(found.root, absent)
    return {part: [replace(row, path=there[row.path] or row.path) for row in some] for part, some in rows.items()}
