"""The survey of Speech Commands before training KS."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream_heads.common.survey import Part, Survey
from downstream_heads.elp_ks.about import TASK
from downstream_heads.elp_ks.data import limited
from downstream_heads.elp_ks.task import folder_of_test, read_options
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.values import mapping
from upstream_elp.corpora.registry import corpus_root
from upstream_elp.corpora.speech_commands import read_corpus


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Check folders and lists.

    Args:
        block: the config block ``downstream_expert``.
        splits: the splits.
        variant: unused, as this task has no variants.
        front: unused, as the head accepts any length.

    Raises:
        ElpError: a config key is wrong, or there is no corpus.
    """
    rc = read_options(mapping(block.get("datarc"), key="downstream_expert.datarc"))
    root = corpus_root(rc, TASK.corpus)
    found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
    reading = read_corpus(root, folder_of_test(rc), splits)
    found.add(reading)
    for split in splits:
        rows = reading.of.get(split, [])
        if split == "train":
            rows = limited(root, rows, rc)
        speakers = [row.speaker for row in rows if row.speaker]  # noise has none
        found.parts.append(Part(split, [row.path for row in rows], speakers, [row.label for row in rows]))
    return found
