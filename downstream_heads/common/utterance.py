"""The parts that tasks with one answer per utterance share besides their head: data options, loaders, answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from downstream_heads.common.base import TaskExpert, mean_loss
from downstream_heads.common.batching import BATCH_DEFAULTS, check_batch_options
from downstream_heads.common.files import write_text
from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.metrics import accuracy
from downstream_heads.common.results import Items, answer_columns
from downstream_heads.common.scorer import UtteranceScorer
from downstream_heads.common.size import SIZE_DEFAULTS, check_size
from upstream_elp.audio.reading import CHANNEL_RULES
from upstream_elp.base.values import boolean, check_paths, choose, positive_int, read_options

LOADER_DEFAULTS = {
    "num_workers": 0,
    "train_batch_size": 32,
    "eval_batch_size": 32,
    "pre_load": False,
    "resample": False,
    "channels": "error",
    **BATCH_DEFAULTS,
    **SIZE_DEFAULTS,
}


def data_options(
    block: Mapping[str, Any], defaults: Mapping[str, Any], *, ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """Check ``datarc`` against the keys that these tasks share and the task's own ``defaults``, and return it.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    where = "downstream_expert.datarc"
    rc = read_options(block, {**LOADER_DEFAULTS, **defaults}, where=where, ignored=ignored)
    for key, least in (("num_workers", 0), ("train_batch_size", 1), ("eval_batch_size", 1)):
        positive_int(rc[key], key=f"{where}.{key}", least=least)
    for key in ("pre_load", "resample"):
        boolean(rc[key], key=f"{where}.{key}")
    check_batch_options(rc, where=where)
    check_size(rc, where=where)
    check_paths(rc, [key for key in ("root", "file_path", "meta_data") if key in rc], where=where)
    choose(rc["channels"], CHANNEL_RULES, key=f"{where}.channels")
    return rc


class UtteranceExpert(UtteranceScorer, TaskExpert):
    """A task expert with one answer per utterance.

    A task implements :meth:`measures`, :meth:`answer_file` and :meth:`answer_line`, and :meth:`chance` if that depends
    on the corpus.
    """

    def measures(self, predict: Sequence, truth: Sequence) -> dict[str, float]:
        """Return the metrics of a split in per cent; dev's ``acc`` chooses the best checkpoint."""
        raise NotImplementedError

    def chance(self, truth: Sequence) -> dict[str, float]:
        """Return the chance level of metrics for which it depends on the corpus."""
        return {}

    def item_columns(self, predict: Sequence, truth: Sequence) -> dict[str, list]:
        """Return what is kept of every item besides its name and speaker, as :class:`upstream_elp.statistics.Items`."""
        return answer_columns(predict, truth)

    def notes(self) -> dict[str, Any]:
        """Return additional keys for ``metrics.jsonl``."""
        return {}

    def answer_file(self, name: str) -> str:
        """Return the file of the answers ``name``: ``<split>_predict``, ``<split>_truth`` or ``inference``."""
        raise NotImplementedError

    def answer_line(self, utterance: str, answer: Any) -> str:
        """Return one line of such a file."""
        raise NotImplementedError

    def read_data_options(self, defaults: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> None:
        """Check ``datarc`` against the task's keys and set up the audio reader."""
        self.datarc = data_options(self.datarc, defaults, ignored=ignored)
        self.audio = AudioReader(
            resample=self.datarc["resample"],
            channels=self.datarc["channels"],
            pre_load=self.datarc["pre_load"],
            min_samples=self.min_samples,
        )

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Make a loader of ``(wavs, labels, filenames)``."""
        split = self.split_name(split)
        return self.batch_loader(split, self.dataset(split), epoch=epoch)

    def log_records(
        self, split: str, records: Mapping[str, list], logger: Any, global_step: int, **_: Any
    ) -> list[str]:
        """Report the metrics, write the answer files, and name the checkpoint if dev's accuracy is the best so far."""
        split = self.split_name(split)
        names, predict, truth = self.data_order(split, records["filename"], records["predict"], records["truth"])
        values = self.measures(predict, truth)
        results = None
        if split != "train" and names:
            results = Items(names, self.item_speakers(split, names), self.item_columns(predict, truth))
        self.report(
            split,
            global_step,
            values,
            logger=logger,
            items=len(truth),
            loss=mean_loss(records),
            chance=self.chance(truth),
            notes=self.notes(),
            results=results,
        )
        if split == "train":
            return []
        for kind, answers in (("predict", predict), ("truth", truth)):
            self.write_answers(f"{split}_{kind}", names, answers)
        return self.keep_best(split, values["acc"]) if split == "dev" else []

    def write_answers(self, name: str, utterances: Sequence[str], answers: Sequence[Any]) -> list[str]:
        """Write an answer file into ``expdir`` and return its lines."""
        lines = [self.answer_line(*pair) for pair in zip(utterances, answers, strict=True)]
        write_text(self.expdir / self.answer_file(name), "".join(f"{line}\n" for line in lines))
        return lines

    def show_answers(self, utterances: Sequence[str], answers: Sequence[Any]) -> None:
        """Write and print answers if the utterances have names (S3PRL's ``-m inference``)."""
        if utterances:
            tqdm.write("\n".join(self.write_answers("inference", utterances, answers)))


class LabelExpert(UtteranceExpert):
    """A task expert whose answer is one of several labels; a task calls :meth:`build_labels`."""

    def build_labels(self, names: Sequence[str]) -> None:
        """Build the head and the loss for these labels, in the order of the head's outputs."""
        self.names = list(names)
        self.build_head(len(self.names))
        self.objective = nn.CrossEntropyLoss()

    def label_tables(self) -> list[str]:
        """Return the labels in the order of the head's outputs."""
        return list(self.names)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[int],
        filenames: Sequence[str],
        records: defaultdict,
        **_: Any,
    ) -> Tensor:
        """Return the cross-entropy of a batch; predictions and truths go into ``records``."""
        logits = self.logits(features)  # (batch, classes)
        loss = self.objective(logits, torch.as_tensor(labels, dtype=torch.long, device=logits.device))
        records["loss"] += self.losses(split, loss, len(labels))
        records["predict"] += [self.names[index] for index in logits.argmax(dim=-1).tolist()]
        records["truth"] += [self.names[int(index)] for index in labels]
        records["filename"] += list(filenames)
        return loss

    def measures(self, predict: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
        """Return the accuracy."""
        return {"acc": accuracy(predict, truth)}

    def answer_file(self, name: str) -> str:
        """Return the name of a text file."""
        return f"{name}.txt"

    def answer_line(self, utterance: str, answer: str) -> str:
        """Return ``<utterance> <label>``."""
        return f"{utterance} {answer}"

    def inference(self, features: Sequence[Tensor], filenames: Sequence[str]) -> list[str]:
        """Classify, and write ``inference.txt`` if the utterances have names (S3PRL's ``-m inference``)."""
        with torch.no_grad():
            answers = [self.names[index] for index in self.logits(features).argmax(dim=-1).tolist()]
        self.show_answers(filenames, answers)
        return answers
