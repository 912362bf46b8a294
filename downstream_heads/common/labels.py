"""Trained heads in use, for tasks whose answer is one of several labels."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from downstream_heads.common.answers import Choice, Label
from downstream_heads.common.predictor import Predictor, label_list, probabilities
from downstream_heads.common.scorer import UtteranceScorer, head_options


class LabelPredictor(UtteranceScorer, Predictor):
    """Predicts the most likely label, as the task does, with the probability of each label.

    A task sets ``about`` and may set ``answer``, the class of its answers.
    """

    answer: ClassVar[type[Label]] = Label

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked block ``modelrc``."""
        return head_options(modelrc)

    def build(self, labels: Any) -> None:
        """Build projector and model for the names in ``labels``."""
        self.names = label_list(labels, key="labels")
        self.build_head(len(self.names))

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list[Label]:
        """Return one label per utterance from ``(frames_i, upstream_dim)`` features."""
        logits = self.logits(features)  # (batch, classes)
        rows = probabilities(logits, names).tolist()
        best = logits.argmax(dim=-1).tolist()
        return [
            self.answer(name, Choice(self.names[index], dict(zip(self.names, row, strict=True))))
            for name, index, row in zip(names, best, rows, strict=True)
        ]
