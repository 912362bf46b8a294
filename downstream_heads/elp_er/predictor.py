"""Recognise emotions with a trained head."""

from typing import Any, ClassVar

from downstream_heads.common.answers import Emotion
from downstream_heads.common.labels import LabelPredictor
from downstream_heads.elp_er.about import TASK


class Predictor(LabelPredictor):
    """The likeliest emotion, as the task chooses it, with the probability of each."""

    about = TASK
    answer = Emotion
    audio_defaults: ClassVar[dict[str, Any]] = {"resample": True, "channels": "error"}
