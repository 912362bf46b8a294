"""The survey of Fluent Speech Commands before training IC."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream_heads.common.own import survey_own
from downstream_heads.common.size import limited
from downstream_heads.common.survey import Part, Survey
from downstream_heads.common.utterance import data_options
from downstream_heads.elp_ic.about import TASK
from downstream_heads.elp_ic.data import TABLES
from downstream_heads.elp_ic.task import DATA_DEFAULTS, own_slots
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.values import mapping
from upstream_elp.corpora import fluent
from upstream_elp.corpora.registry import corpus_root


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Check the tables of the splits; the training table is always included, as it defines the classes.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits.
        variant: unused, as this task has no variants.
        front: unused, as the head accepts any length.

    Raises:
        ElpError: a config key is wrong, or there is no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key="downstream_expert.datarc"), DATA_DEFAULTS)
    if own := own_slots(rc, needed=splits):
        return survey_own(TASK, own, splits, rc)
    root = corpus_root(rc, TASK.corpus)
    found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
    reading = fluent.read(root, [TABLES[split] for split in splits])
    found.add(reading)
    for split in splits:
        rows = reading.of[TABLES[split]]
        if split == "train":
            rows = limited(root, rows, rc)
        classes = ["/".join(row.slots) for row in rows]
        found.parts.append(Part(split, [row.path for row in rows], [row.speaker for row in rows], classes))
    return found
