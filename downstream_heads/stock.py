"""S3PRL's own tasks that sweeps can run: those that answer each recording, and choose a checkpoint on a dev set.

S3PRL logs their metrics as shares under the task's own name. Here the main one also has a name of its own, in per cent
as in our tasks, and the result of every recording is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from downstream_heads.contract import ACCURACY, Metric, Task

Records = Mapping[str, Sequence[Any]]
"""What S3PRL's expert has recorded in an evaluation: lists with one entry per recording."""


def _right(records: Records, *, predicted: str = "predict", true: str = "truth") -> dict[str, list[float]]:
    """Return 1 for each right answer, and 0 for each wrong one."""
    answers = zip(records[predicted], records[true], strict=True)
    return {"acc": [float(one == other) for one, other in answers]}


def _phones(records: Records) -> dict[str, list[float]]:
    """Return the errors and the phones of each utterance."""
    import editdistance

    texts = zip(records["hypothesis"], records["groundtruth"], strict=True)
    pairs = [(found.split(" "), true.split(" ")) for found, true in texts]
    return {
        "per_errors": [float(editdistance.eval(found, true)) for found, true in pairs],
        "per_total": [float(len(true)) for _, true in pairs],
    }


def _slots(records: Records) -> dict[str, list[float]]:
    """Return the F1 of the types of slots of each utterance, as S3PRL computes it."""
    from s3prl.downstream.ctc.metric import slot_type_f1

    texts = zip(records["hypothesis"], records["groundtruth"], strict=True)
    return {"slot_type_f1": [slot_type_f1([found], [true]) for found, true in texts]}


def _frames(records: Records) -> dict[str, list[float]]:
    """Return the shares of right frames and of diarization errors of each recording."""
    return {"frame_acc": [float(share) for share in records["acc"]], "frame_der": [float(s) for s in records["der"]]}


def _named(head: Any, split: str, records: Records) -> list[str]:
    """Return the names that the expert has recorded."""
    return [str(name) for name in records["filename"]]


def _mixtures(head: Any, split: str, records: Records) -> list[str]:
    """Return the names of the recordings of a test set, or of the parts of recordings of another set."""
    dataset = getattr(head, f"{split}_dataset")
    if split == "test":
        return [str(name) for name in dataset.rec_list]
    return [f"{name}-{start}" for name, start, _ in dataset.chunk_indices]


@dataclass(frozen=True, kw_only=True)
class StockTask(Task):
    """One of S3PRL's own tasks, which has no folder here.

    Attributes:
        flag: the value of ``-d``; by default the name.
        needs: keys of ``downstream_expert`` and their values, without which it is another task, or its results are not
            known for each recording; of a list, the first value.
        places: keys of ``downstream_expert`` that name the folders and files of its data.
        columns: the columns of per-item results (:class:`upstream_elp.statistics.Items`) from an evaluation's records.
        names: the names of an evaluation's recordings, from the expert, the split and the records.
        speaker: the speaker of a recording, from its name and its true class; an empty text if unknown.
        true: key of the records with the true classes; None if there are none.
    """

    metrics: Mapping[str, Metric] = field(default_factory=lambda: {"acc": ACCURACY})
    flag: str = ""
    needs: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[str, ...]
    columns: Callable[[Records], dict[str, list[float]]] = _right
    names: Callable[[Any, str, Records], list[str]] = _named
    speaker: Callable[[str, str], str] = lambda name, truth: ""
    true: str | None = "truth"

    @property
    def command(self) -> str:
        """The value of ``-d``."""
        return self.flag or self.name

    def results(self, head: Any, split: str, records: Records) -> tuple[list[str], list[str], dict[str, list[float]]]:
        """Return the names, speakers and columns of an evaluation's recordings."""
        names = self.names(head, split, records)
        true = records[self.true] if self.true else [""] * len(names)
        speakers = [self.speaker(name, str(truth)) for name, truth in zip(names, true, strict=True)]
        return names, speakers, self.columns(records)


def _actor(name: str, truth: str) -> str:
    """Return the speaker of an utterance of IEMOCAP."""
    from upstream_elp.corpora.iemocap import speaker_of  # imports numpy

    return speaker_of(name)


def _before(mark: str, name: str, truth: str) -> str:
    """Return the part of a file's name before a mark."""
    return name.rpartition("/")[2].partition(mark)[0]


STOCK = {
    task.name: task
    for task in (
        StockTask(
            name="speech_commands",
            title="S3PRL's KS",
            corpus="speech_commands",
            places=("datarc.speech_commands_root", "datarc.speech_commands_test_root"),
            speaker=partial(_before, "_nohash_"),
        ),
        StockTask(
            name="voxceleb1",
            title="S3PRL's SID",
            corpus="voxceleb1",
            places=("datarc.file_path", "datarc.meta_data"),
            columns=partial(_right, predicted="predict_speaker", true="truth_speaker"),
            speaker=lambda name, truth: truth,
            true="truth_speaker",
        ),
        StockTask(
            name="fluent_commands",
            title="S3PRL's IC",
            corpus="fluent_speech_commands",
            places=("datarc.file_path",),
        ),
        StockTask(
            name="emotion",
            title="S3PRL's ER",
            corpus="iemocap",
            places=("datarc.root", "datarc.meta_data"),
            speaker=_actor,
        ),
        StockTask(
            name="pr",
            title="S3PRL's PR",
            corpus="librispeech",
            metrics={"per": Metric("PER")},
            flag="ctc",
            needs={"metric": "per"},
            places=("corpus.path", "corpus.lexicon", "text.vocab_file"),
            columns=_phones,
            speaker=partial(_before, "-"),
            true=None,
        ),
        StockTask(
            name="sf",
            title="S3PRL's SF",
            corpus="snips",
            metrics={"slot_type_f1": Metric("slot type F1", higher_is_better=True)},
            flag="ctc",
            needs={"metric": "slot_type_f1"},
            places=("corpus.path", "text.vocab_file", "text.slots_file"),
            columns=_slots,
            speaker=partial(_before, "-"),
            true=None,
        ),
        StockTask(
            name="sd",
            title="S3PRL's SD",
            corpus="librimix",
            metrics={
                "frame_acc": Metric("frame accuracy", higher_is_better=True),
                "frame_der": Metric("DER of frames"),
            },
            also="frame_der",
            flag="diarization",
            needs={"loaderrc.eval_batchsize": 1},
            places=("loaderrc.train_dir", "loaderrc.dev_dir", "loaderrc.test_dir"),
            columns=_frames,
            names=_mixtures,
            true=None,
        ),
    )
}
"""The tasks by name."""
REFUSED = {
    "ctc": "stands for several tasks; take pr (phonemes) or sf (slots)",
    "diarization": "is sd in a plan",
    "quesst14_dtw": "trains nothing; run it with elp run -m evaluate",
    "sv_voxceleb1": "has no dev set, so its best checkpoint is chosen on test; take sv",
}
"""Why a sweep does not run S3PRL's other tasks of SUPERB, as the predicate of a sentence."""


def of(head: Any) -> StockTask | None:
    """Return the task of one of S3PRL's experts; None if it is another one, or evaluates several recordings at once."""
    flag = type(head).__module__.split(".")[-2]
    return next((task for task in STOCK.values() if task.command == flag and _is_set(head, task.needs)), None)


def _is_set(head: Any, needs: Mapping[str, Any]) -> bool:
    known = {"metric": getattr(head, "metrics", None), "loaderrc": getattr(head, "loaderrc", None)}
    return all(values_of(known, key)[0] == value for key, value in needs.items())


def values_of(block: Any, key: str) -> list[Any]:
    """Return the values of a dotted key, which may have a list or a single one; None if it is missing or empty."""
    for part in key.split("."):
        block = block.get(part) if isinstance(block, Mapping) else None
    listed = block if isinstance(block, list) else [block]
    return listed or [None]
