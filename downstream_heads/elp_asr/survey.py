"""The survey of LibriSpeech before training ASR."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from downstream_heads.common.own import survey_own
from downstream_heads.common.survey import Need, Part, Survey
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import Characters, frames_needed
from downstream_heads.elp_asr.options import data_options, folders_of
from downstream_heads.elp_asr.own import UNSEEN, dictionary, own_texts, text_problems
from downstream_heads.elp_asr.table import read_split
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import counted
from upstream_elp.base.problems import Problem
from upstream_elp.base.values import mapping
from upstream_elp.corpora import checks
from upstream_elp.corpora.chapters import Utterance
from upstream_elp.corpora.registry import corpus_root


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Check transcripts and folders.

    Args:
        block: the config block ``downstream_expert``.
        splits: full names of the splits.
        variant: unused, as this task has no variants.
        front: how the upstream turns samples into frames.

    Raises:
        ElpError: a config key is wrong, or there is no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key="downstream_expert.datarc"))
    model = mapping(block.get("modelrc"), key="downstream_expert.modelrc")
    own = own_texts(rc, needed=splits)
    characters = dictionary(rc, own)
    if own:
        found = survey_own(TASK, own, splits, rc)
        found.problems += text_problems(own, characters)
        found.tolerated |= {UNSEEN}
        used = {part.name: {*part.files} - own.gone for part in found.parts}
        read = {split: [row for row in own.of[split] if row.path in used[split]] for split in splits}
    else:
        root = corpus_root(rc, TASK.corpus)
        found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
        read = {split: _add(found, split, rc, characters) for split in splits}
    for part in found.parts:
        part.answers = [row.text for row in read[part.name]]
    if rc["zero_infinity"]:  # an utterance with too few frames then only wastes its place in the batch
        found.tolerated |= {"ctc"}
    factor, superb = _subsampling(model, front.stride), model.get("head", "superb") == "superb"
    for row in (row for rows in read.values() for row in rows):
        if row.text and not characters.unknown_characters(row.text):
            labels = characters.encode(row.text, superb=superb)
            least = front.samples(frames_needed(labels) * factor)
            found.needs[row.path] = Need(least, f"CTC needs for its {len(labels)} labels", "ctc")
    if not own:
        found.problems += checks.duplicate_problems(dict.fromkeys(file for part in found.parts for file in part.files))
        _compare(found)
    return found


def _add(found: Survey, split: str, rc: Mapping[str, Any], characters: Characters) -> list[Utterance]:
    """Add a split of the corpus, and return its utterances."""
    reading = read_split(found.root, split, folders_of(rc, split), characters=characters, bucket_file=rc["bucket_file"])
    found.add(reading)
    if split == "train":
        reading.limit(found.root, rc)
    rows = reading.present
    found.parts.append(Part(split, [row.path for row in rows], [row.speaker for row in rows]))
    return rows


def _compare(found: Survey) -> None:
    """Report shared utterances of two splits as a problem, shared speakers as a remark."""
    train = next((part for part in found.parts if part.name == "train"), Part("train"))
    for part in found.parts:
        if part is train:
            continue
        both = sorted(set(train.files) & set(part.files))
        if both:
            share = counted(len(both), "file")
            sentence = f"train and {part.name} share {share} (such as {both[0]}); remove them from one split."
            found.problems.append(Problem("overlap", both[0], sentence, False))
        shared = sorted(set(train.speakers) & set(part.speakers))
        if shared and not both:
            found.remarks.append(f"train and {part.name} share {counted(len(shared), 'speaker')} (such as {shared[0]})")


def _subsampling(model: Mapping[str, Any], rate: int) -> int:
    """Return how many frames of the upstream become one frame of the head."""
    if model.get("head", "superb") != "superb":
        return 1
    rnn = mapping(model.get("RNNs"), key="downstream_expert.modelrc.RNNs")
    total = rnn.get("total_rate", -1)
    return (1 if total == -1 else max(1, round(total / rate))) * prod(rnn.get("sample_rate", [1]))
