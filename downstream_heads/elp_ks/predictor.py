"""Keyword spotting with a trained head."""

from typing import Any

from torch import Tensor

from downstream_heads.common.labels import LabelPredictor
from downstream_heads.elp_ks.about import TASK
from downstream_heads.elp_ks.data import Reader, softer


class Predictor(LabelPredictor):
    """Predicts the most likely class, as the task does, with the probability of each."""

    about = TASK

    def set_audio(self, options: dict[str, Any]) -> None:
        """Set the rules for reading files."""
        self.audio = Reader(**options, min_samples=self.min_samples)

    def prepare(self, wav: Tensor, name: str) -> Tensor:
        """Convert a wave at 16 kHz, ``(samples,)``, as if it had been read from a file."""
        return softer(super().prepare(wav, name))
