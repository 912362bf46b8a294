"""Intent classification with a trained head."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from downstream_heads.common.answers import Choice, Intent
from downstream_heads.common.predictor import Predictor as TaskPredictor
from downstream_heads.common.predictor import label_list, probabilities
from downstream_heads.common.scorer import UtteranceScorer, head_options
from downstream_heads.elp_ic.about import TASK
from downstream_heads.elp_ic.data import SLOTS
from upstream_elp.base.errors import ElpError


class Predictor(UtteranceScorer, TaskPredictor):
    """Predicts the most likely value of each slot, as the task does, with the probability of each."""

    about = TASK

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked block ``modelrc``."""
        return head_options(modelrc)

    def build(self, labels: Any) -> None:
        """Build projector and model for the slot values in ``labels``."""
        if not isinstance(labels, Mapping) or not labels or not all(isinstance(slot, str) for slot in labels):
            raise ElpError(f"the key 'labels' must contain lists of labels by slot, such as {', '.join(SLOTS)}")
        self.values = {slot: label_list(column, key=f"labels.{slot}") for slot, column in labels.items()}
        self.sizes = [len(column) for column in self.values.values()]
        self.build_head(sum(self.sizes))

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list[Intent]:
        """Return one intent per utterance from ``(frames_i, upstream_dim)`` features."""
        slots = self.logits(features).split(self.sizes, dim=1)
        chosen: list[dict[str, Choice]] = [{} for _ in names]
        for (slot, column), logits in zip(self.values.items(), slots, strict=True):
            rows = probabilities(logits, names).tolist()
            for intent, index, row in zip(chosen, logits.argmax(dim=1).tolist(), rows, strict=True):
                intent[slot] = Choice(column[index], dict(zip(column, row, strict=True)))
        return [Intent(name, intent) for name, intent in zip(names, chosen, strict=True)]
