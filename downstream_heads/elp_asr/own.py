"""ASR on a user's own data: transcripts from a manifest, and the characters in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream_heads.common.own import Own, read_own
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import WORD_END, Characters, Gathered
from downstream_heads.elp_asr.options import WHERE
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import Problem
from upstream_elp.corpora.manifest import TEXT
from upstream_elp.corpora.registry import manifest_for

UNSEEN = "unseen-characters"
"""Kind of problem that does not stop a run: the characters count as errors of the model."""


def own_texts(rc: Mapping[str, Any], *, needed: Sequence[str]) -> Own | None:
    """Read a manifest of own data; None if there is none.

    Raises:
        ElpError: length tables are given, which only a corpus has.
    """
    source = manifest_for(rc, TASK.corpus)
    if source is None:
        return None
    if rc["bucket_file"]:
        raise ElpError(f"config key {WHERE}.bucket_file must be null with the manifest {source}; remove it")
    return read_own(TASK, source, needed=needed, columns=[TEXT])


def dictionary(rc: Mapping[str, Any], own: Own | None) -> Characters:
    """Return the characters: those of a file, of the training transcripts of own data, or the packaged ones."""
    if own is not None and rc["dict_path"] is None:
        return Gathered([row.text for row in own.of.get("train", ())], order=rc["symbols"])
    return Characters(rc["dict_path"], order=rc["symbols"])


def text_problems(own: Own, characters: Characters) -> list[Problem]:
    """Report transcripts that cannot be written with the characters."""
    name, problems = own.manifest.name, []
    gathered = isinstance(characters, Gathered)
    kind, place = (UNSEEN, "the transcripts of train") if gathered else ("characters", "the dictionary")
    for row in own.rows:
        line = f"{name} line {row.line}"
        if WORD_END in row.text:
            sentence = f"{line} has the character '{WORD_END}', which stands for the end of a word; remove it."
            problems.append(Problem("characters", row.path, sentence, False, f"lines of {name} contain '{WORD_END}'"))
        if strange := characters.unknown_characters(row.text):
            sentence = f"{line} has characters that are not in {place}: {' '.join(map(repr, strange))}."
            cause = f"lines of {name} have characters that are not in {place}"
            problems.append(Problem(kind, row.path, sentence, False, cause))
    return problems
