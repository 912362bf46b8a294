"""Emotion recognition with a trained head."""

from typing import Any, ClassVar

from downstream_heads.common.answers import Emotion
from downstream_heads.common.labels import LabelPredictor
from downstream_heads.elp_er.about import TASK


class Predictor(LabelPredictor):
    """Predicts the most likely emotion, as the task does, with the probability of each."""

    about = TASK
    answer = Emotion
    audio_defaults: ClassVar[dict[str, Any]] = {"resample": True, "channels": "error"}
