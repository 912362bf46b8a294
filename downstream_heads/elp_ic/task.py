"""SUPERB's IC task: action, object and location of a spoken command.

The head (``downstream_heads.common.heads``) is projector 256 -> mean over frames -> linear layer to 24 outputs (6
actions, 14 objects, 4 locations), trained with the sum of three cross-entropies. There is no non-linearity, so
``superb`` and ``linear`` compute the same function. SUPERB and the L-E reference differ in their protocols: SUPERB
trains for 200,000 steps with batch size 32 and chooses the best checkpoint on the valid set; the reference trains for 7
epochs with batch size 16 and a learning rate per epoch, takes the last epoch, and numbers the labels as a published
checkpoint does.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downstream_heads.common.metrics import accuracy, majority_accuracy
from downstream_heads.common.own import Own, read_own, usable
from downstream_heads.common.size import limited
from downstream_heads.common.utterance import UtteranceExpert
from downstream_heads.elp_ic.about import TASK
from downstream_heads.elp_ic.data import SLOTS, Commands, read_commands, slot_values, split_rows
from upstream_elp.base.values import choose, wrong_value
from upstream_elp.corpora.registry import corpus_root, manifest_for

WHERE = "downstream_expert.datarc"
DATA_DEFAULTS = {"root": None, "file_path": None, "label_order": "appearance", "labels": list(SLOTS)}


def own_slots(rc: Mapping[str, Any], *, needed: Sequence[str]) -> Own | None:
    """Read a manifest of own data; None if there is none.

    Raises:
        ElpError: the corpus has no such columns, or their names are not different texts.
    """
    source, slots = manifest_for(rc, TASK.corpus), rc["labels"]
    texts = isinstance(slots, list) and all(isinstance(slot, str) and slot for slot in slots)
    if not texts or not slots or len(set(slots)) != len(slots) or "file" in slots:  # answers have a file already
        raise wrong_value(
            slots, "a list of the names of columns other than file, such as [intent]", key=f"{WHERE}.labels"
        )
    if source is not None:
        return read_own(TASK, source, needed=needed, labels=slots)
    if slots != list(SLOTS):
        raise wrong_value(slots, f"[{', '.join(SLOTS)}] for Fluent Speech Commands", key=f"{WHERE}.labels")
    return None


class DownstreamExpert(UtteranceExpert):
    """IC on Fluent Speech Commands, following S3PRL's downstream contract.

    It writes two files into ``expdir`` for dev and test: ``<split>_predict.csv`` and ``<split>_truth.csv``, one
    ``<utterance>,<action>,<object>,<location>`` per line, without a header.
    """

    about = TASK

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.read_data_options(DATA_DEFAULTS)
        order = choose(self.datarc["label_order"], ("appearance", "sorted"), key=f"{WHERE}.label_order")
        self.own = own_slots(self.datarc, needed=["train"])
        self.slots = tuple(self.datarc["labels"])
        self.root = self.own.root if self.own else corpus_root(self.datarc, TASK.corpus)
        if self.own:
            self.train_rows = usable(self.own, skips=bool(self.skips)).rows_of("train")
        else:
            self.train_rows = read_commands(self.root, "train")
        self.values = slot_values(self.train_rows, order=order)
        self.sizes = [len(column) for column in self.values]
        self.build_head(sum(self.sizes))
        self.objective = nn.CrossEntropyLoss()

    def label_tables(self) -> dict[str, list[str]]:
        """Return the values of each slot in the order of the head's outputs."""
        return {slot: list(column) for slot, column in zip(self.slots, self.values, strict=True)}

    def make_dataset(self, split: str) -> Commands:
        """Return the data set of one split; ``dev`` is the corpus' valid part."""
        rows = self.own.rows_of(split) if self.own else split_rows(self.root, split, skip_missing=bool(self.skips))
        if split == "train":  # the classes are those of all rows
            rows = limited(self.root, rows, self.datarc)
        return Commands(self.root, rows, values=self.values, audio=self.audio)

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the speakers, from the corpus's tables."""
        of = {row.name: row.speaker for row in self.dataset(split).rows}
        return [of[name] for name in names]

    def names(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Map the class indices of the three slots to their values."""
        return tuple(column[int(index)] for column, index in zip(self.values, indices, strict=True))

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[Any],
        filenames: Sequence[str],
        records: defaultdict,
        **_: Any,
    ) -> Tensor:
        """Return the sum of the three cross-entropies; predictions and truths go into ``records``."""
        slots = self.logits(features).split(self.sizes, dim=1)
        target = torch.stack([torch.as_tensor(label, dtype=torch.long) for label in labels])  # (batch, slots)
        on_device = target.to(slots[0].device)
        loss = sum(self.objective(logits, on_device[:, slot]) for slot, logits in enumerate(slots))
        best = torch.stack([logits.argmax(dim=1) for logits in slots], dim=1)  # (batch, slots)
        records["loss"] += self.losses(split, loss, len(labels))
        records["predict"] += [self.names(row) for row in best.tolist()]
        records["truth"] += [self.names(row) for row in target.tolist()]
        records["filename"] += list(filenames)
        return loss

    def measures(self, predict: Sequence[tuple], truth: Sequence[tuple]) -> dict[str, float]:
        """Return the accuracy of whole intents and of each slot."""
        return {"acc": accuracy(predict, truth), **self._per_slot(accuracy, predict, truth)}

    def item_columns(self, predict: Sequence[tuple], truth: Sequence[tuple]) -> dict[str, list]:
        """Return the answers, and whether the whole intent and each slot are right."""
        per_slot = zip(self.slots, zip(*predict, strict=True), zip(*truth, strict=True), strict=True)
        right = {f"{slot}_acc": [int(p == t) for p, t in zip(*both, strict=True)] for slot, *both in per_slot}
        return {**super().item_columns(predict, truth), **right}

    def chance(self, truth: Sequence[tuple]) -> dict[str, float]:
        """Return the values of the most common training intent or slot value, and of a uniform guess of the intent."""
        known = [row.slots for row in self.train_rows]
        uniform = 100.0 / len(set(known))
        slots = self._per_slot(majority_accuracy, known, truth)
        return {"acc": majority_accuracy(known, truth), **slots, "uniform": uniform}

    def answer_file(self, name: str) -> str:
        """Return the name of a csv file (without a header)."""
        return f"{name}.csv"

    def answer_line(self, utterance: str, answer: tuple[str, ...]) -> str:
        """Return ``<utterance>,<action>,<object>,<location>``; own values may need quotes."""
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow((utterance, *answer))
        return line.getvalue()

    def inference(self, features: Sequence[Tensor], filenames: Sequence[str]) -> list[tuple[str, ...]]:
        """Classify, and write ``inference.csv`` if the utterances have names (S3PRL's ``-m inference``)."""
        with torch.no_grad():
            slots = self.logits(features).split(self.sizes, dim=1)
        best = torch.stack([logits.argmax(dim=1) for logits in slots], dim=1)
        answers = [self.names(row) for row in best.tolist()]
        self.show_answers(filenames, answers)
        return answers

    def _per_slot(
        self, measure: Callable[[Sequence, Sequence], float], first: Sequence[tuple], second: Sequence[tuple]
    ) -> dict[str, float]:
        """Apply a metric of two label lists to each slot: ``action_acc``, ``object_acc``, ``location_acc``."""
        return {
            f"{slot}_acc": measure([row[index] for row in first], [row[index] for row in second])
            for index, slot in enumerate(self.slots)
        }
