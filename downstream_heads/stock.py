"""S3PRL's own tasks that sweeps can run: those that answer each utterance with a class.

S3PRL logs their accuracy as a share under the task's own name. Here it is also ``acc`` in per cent, as in our tasks,
and every utterance's answer is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from downstream_heads.contract import ACCURACY, Metric, Task


@dataclass(frozen=True, kw_only=True)
class StockTask(Task):
    """One of S3PRL's own tasks; its name is the value of ``-d``, and it has no folder here.

    Attributes:
        places: keys of ``downstream_expert.datarc`` that name the folders and files of its data.
        answers: keys of S3PRL's records with the predicted and the true classes.
        speaker: the speaker of an utterance, from its name and its true class; an empty text if unknown.
    """

    metrics: Mapping[str, Metric] = field(default_factory=lambda: {"acc": ACCURACY})
    places: tuple[str, ...]
    answers: tuple[str, str] = ("predict", "truth")
    speaker: Callable[[str, str], str] = lambda name, truth: ""

    def results(self, records: Mapping[str, Sequence[Any]]) -> dict[str, list]:
        """Return the names, speakers and results (1 for right, 0 for wrong) of an evaluation's utterances.

        Args:
            records: what S3PRL's expert has recorded; every value has one entry per utterance.
        """
        names = [str(name) for name in records["filename"]]
        predicted, true = (list(records[key]) for key in self.answers)
        pairs = zip(names, true, strict=True)
        right = [float(one == other) for one, other in zip(predicted, true, strict=True)]
        return {"keys": names, "speaker": [self.speaker(name, str(truth)) for name, truth in pairs], "right": right}


def _actor(name: str, truth: str) -> str:
    """Return the speaker of an utterance of IEMOCAP."""
    from upstream_elp.corpora.iemocap import speaker_of  # imports numpy

    return speaker_of(name)


STOCK = {
    task.name: task
    for task in (
        StockTask(
            name="speech_commands",
            title="S3PRL's KS",
            corpus="speech_commands",
            places=("speech_commands_root", "speech_commands_test_root"),
            speaker=lambda name, truth: name.rpartition("/")[2].partition("_nohash_")[0],
        ),
        StockTask(
            name="voxceleb1",
            title="S3PRL's SID",
            corpus="voxceleb1",
            places=("file_path", "meta_data"),
            answers=("predict_speaker", "truth_speaker"),
            speaker=lambda name, truth: truth,
        ),
        StockTask(
            name="fluent_commands",
            title="S3PRL's IC",
            corpus="fluent_speech_commands",
            places=("file_path",),
        ),
        StockTask(
            name="emotion",
            title="S3PRL's ER",
            corpus="iemocap",
            places=("root", "meta_data"),
            speaker=_actor,
        ),
    )
}
"""The tasks by name."""
REFUSED = {
    "ctc": "(PR and SF) needs a clone of S3PRL's repository; run it with elp run --script",
    "diarization": "gets its DER from a scorer that S3PRL runs after the evaluation; run it with elp run",
    "quesst14_dtw": "trains nothing; run it with elp run -m evaluate",
    "sv_voxceleb1": "has no dev set, so its best checkpoint is chosen on test; take sv",
}
"""Why a sweep does not run S3PRL's other tasks of SUPERB, as the predicate of a sentence."""
