"""What ASR finds in LibriSpeech before it trains."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from downstream_heads.common.options import mapping
from downstream_heads.common.roots import corpus_root
from downstream_heads.common.survey import Need, Part, Survey
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import SPECIAL, WORD_END, Characters, frames_needed
from downstream_heads.elp_asr.options import data_options, folders_of
from downstream_heads.elp_asr.table import length_table
from upstream_elp.audio.front import FrontEnd
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import subfolders
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks, librispeech


def survey(block: Mapping[str, Any], *, splits: Sequence[str], variant: str | None, front: FrontEnd) -> Survey:
    """Look at transcripts and folders.

    Args:
        block: the config block ``downstream_expert``.
        splits: full names of the splits.
        variant: has no meaning here.
        front: how the upstream makes frames of samples.

    Raises:
        ElpError: a wrong key, or no corpus.
    """
    rc = data_options(mapping(block.get("datarc"), key="downstream_expert.datarc"))
    model = mapping(block.get("modelrc"), key="downstream_expert.modelrc")
    root, characters = corpus_root(rc, TASK.corpus), Characters(rc["dict_path"])
    found = Survey(TASK.name, root, resample=rc["resample"], mix=rc["channels"] != "error")
    if rc["zero_infinity"]:  # such an utterance then costs nothing but its place in the batch
        found.tolerated |= {"ctc"}
    factor, superb = _subsampling(model, front.stride), model.get("head", "superb") == "superb"
    for split in splits:
        part, texts = Part(split), {}
        for folder in folders_of(rc, split):
            texts.update(_folder(found, part, folder, characters, rc["bucket_file"]))
        part.speakers = [librispeech.speaker_of(file) for file in part.files]
        found.parts.append(part)
        for file in part.files:
            text = texts.get(librispeech.stem(file))
            if text and not characters.unknown_characters(text):
                labels = characters.encode(text, superb=superb)
                least = front.samples(frames_needed(labels) * factor)
                found.needs[file] = Need(least, f"CTC needs for its {len(labels)} labels", "ctc")
    found.problems += checks.duplicate_problems(dict.fromkeys(file for part in found.parts for file in part.files))
    _compare(found)
    return found


def _folder(found: Survey, part: Part, folder: str, characters: Characters, tables: str | None) -> dict[str, str]:
    """Add one part of the corpus to a split; return its transcripts."""
    letters = frozenset(characters.index) - {WORD_END, *SPECIAL} | {" "}
    if tables:
        return _given(found, part, folder, letters, tables)
    if not (found.root / folder).is_dir():
        there = ", ".join(subfolders(found.root))
        sentence = f"{folder} is missing, but {part.name} is made of it; there are {there or 'no folders'}."
        found.problems.append(Problem("layout", folder, sentence, False))
        return {}
    chapters = librispeech.scan_chapters(found.root, found.root / folder, characters=letters)
    found.problems += chapters.problems + librispeech.missing_audio(found.root, chapters.silent)
    found.remarks += chapters.remarks
    part.files += chapters.files
    if not (chapters.files or chapters.closed or chapters.silent):
        found.problems.append(Problem("layout", folder, f"{folder} holds no .flac file.", False))
    return {name: text for table in chapters.tables.values() for name, text in table.texts.items()}


def _given(found: Survey, part: Part, folder: str, letters: frozenset[str], tables: str) -> dict[str, str]:
    """The same for a part whose utterances a length table names."""
    try:
        rows = length_table(found.root, folder, bucket_file=tables)
    except ElpError as error:
        found.problems.append(Problem("table", folder, f"{error}.", False))
        return {}
    closed: dict[str, str] = {}
    chapters = librispeech.read_tables(found.root, sorted({row.path.rpartition("/")[0] for row in rows}), closed=closed)
    found.problems += checks.closed_problems(closed)
    for table in chapters.values():
        found.problems += (
            [Problem("encoding", table.path, f"{table.path} {table.fault}.", False)] if table.fault else []
        )
    texts: dict[str, str] = {}
    for row in rows:
        table = chapters[row.path.rpartition("/")[0]]
        if text := table.texts.get(librispeech.stem(row.path)):
            texts[librispeech.stem(row.path)] = text
        found.problems += checks.transcript_problems(row.path, text, where=table.path, characters=letters)
    part.files += [row.path for row in rows]
    return texts


def _compare(found: Survey) -> None:
    """Utterances in two splits are a problem, speakers in two splits a remark."""
    train = next((part for part in found.parts if part.name == "train"), Part("train"))
    for part in found.parts:
        if part is train:
            continue
        both = sorted(set(train.files) & set(part.files))
        if both:
            share = counted(len(both), "file")
            sentence = f"train and {part.name} share {share} (such as {both[0]}); that is no test."
            found.problems.append(Problem("overlap", both[0], sentence, False))
        shared = sorted(set(train.speakers) & set(part.speakers))
        if shared and not both:
            found.remarks.append(f"train and {part.name} share {counted(len(shared), 'speaker')} (such as {shared[0]})")


def _subsampling(model: Mapping[str, Any], rate: int) -> int:
    """How many frames of the upstream become one of the head."""
    if model.get("head", "superb") != "superb":
        return 1
    rnn = mapping(model.get("RNNs"), key="downstream_expert.modelrc.RNNs")
    total = rnn.get("total_rate", -1)
    return (1 if total == -1 else max(1, round(total / rate))) * prod(rnn.get("sample_rate", [1]))
