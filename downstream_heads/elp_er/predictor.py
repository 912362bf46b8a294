"""Recognise emotions with a trained head."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from downstream_heads.common.answers import Choice, Emotion
from downstream_heads.common.predictor import Predictor as TaskPredictor
from downstream_heads.common.predictor import label_list, probabilities
from downstream_heads.common.scorer import UtteranceScorer, head_options
from downstream_heads.elp_er.about import TASK


class Predictor(UtteranceScorer, TaskPredictor):
    """The likeliest emotion, as the task chooses it, with the probability of each."""

    about = TASK
    audio_defaults: ClassVar[dict[str, Any]] = {"resample": True, "channels": "error"}

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """The checked block ``modelrc``."""
        return head_options(modelrc)

    def build(self, labels: Any) -> None:
        """Make projector and model for the emotions in ``labels``."""
        self.names = label_list(labels, key="labels")
        self.build_head(len(self.names))

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list[Emotion]:
        """One emotion per utterance from ``(frames_i, upstream_dim)`` features."""
        logits = self.logits(features)  # (batch, classes)
        rows = probabilities(logits, names).tolist()
        best = logits.argmax(dim=-1).tolist()
        return [
            Emotion(name, Choice(self.names[index], dict(zip(self.names, row, strict=True))))
            for name, index, row in zip(names, best, rows, strict=True)
        ]
