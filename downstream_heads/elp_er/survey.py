"""The survey of IEMOCAP before training ER."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream_heads.common.own import survey_own
from downstream_heads.common.size import limited
from downstream_heads.common.survey import Part, Survey
from downstream_heads.common.utterance import data_options
from downstream_heads.elp_er.about import TASK
from downstream_heads.elp_er.data import divide
from downstream_heads.elp_er.fold import find_fold
from downstream_heads.elp_er.task import DATA_DEFAULTS, OVERLAP, check_folds, choose_fold, own_labels, session_of
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import Problem
from upstream_elp.base.values import mapping
from upstream_elp.corpora import iemocap
from upstream_elp.corpora.registry import corpus_root


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Check the five sessions, or S3PRL's metadata files.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits.
        variant: the fold, from ``-v``.
        front: unused, as the head accepts any length.

    Raises:
        ElpError: a config key is wrong, or there is no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key="downstream_expert.datarc"), DATA_DEFAULTS)
    check_folds(rc)
    if own := own_labels(rc, variant=variant, needed=splits):
        return survey_own(TASK, own, splits, rc)
    session = session_of(choose_fold(variant, rc["test_fold"]))
    root = corpus_root(rc, TASK.corpus)
    found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
    fold = find_fold(root, session, **{key: rc[key] for key in ("meta_data", "missing", "folds")})
    found.add(fold)
    parts = {"test": fold.test}
    try:
        parts["train"], parts["dev"] = divide(fold.train, rc, session=session)
    except ElpError as error:
        parts["train"], parts["dev"] = fold.train, []
        found.problems.append(Problem("layout", session, f"{error}.", False))
    if rc["folds"] == "random":
        found.remarks.append(OVERLAP)
    known = iemocap.people(root)
    for split in splits:
        rows = limited(root, parts[split], rc) if split == "train" else parts[split]
        speakers = [known.get(row.name) or iemocap.speaker_of(row.name) for row in rows]
        found.parts.append(Part(split, [row.path for row in rows], speakers, [row.label for row in rows]))
    return found
