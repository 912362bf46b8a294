"""Transcription with a trained head."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from downstream_heads.common.answers import Transcript
from downstream_heads.common.predictor import Predictor as TaskPredictor
from downstream_heads.common.predictor import require_finite
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import Characters, words
from downstream_heads.elp_asr.decoding import Transcriber
from downstream_heads.elp_asr.model import build_head, head_options
from upstream_elp.audio.scaling import standardized
from upstream_elp.base.values import boolean


class Predictor(Transcriber, TaskPredictor):
    """Transcribes by greedy CTC decoding, as the task does."""

    about = TASK
    audio_defaults: ClassVar[dict[str, Any]] = {**TaskPredictor.audio_defaults, "normalize": False}

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked block ``modelrc``."""
        return head_options(modelrc)

    @classmethod
    def audio_options(cls, datarc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked options for reading files."""
        options = super().audio_options(datarc)
        boolean(options["normalize"], key="audio.normalize")
        return options

    def prepare(self, wav: Tensor, name: str) -> Tensor:
        """Convert a wave at 16 kHz, ``(samples,)``, as if it had been read from a file."""
        wav = super().prepare(wav, name)
        return standardized(wav) if self.audio.normalize else wav

    def build(self, labels: Any) -> None:
        """Build projector and model for the characters in ``labels``."""
        self.characters = Characters.of(labels, where="labels")
        self.projector, self.model, _ = build_head(
            self.modelrc, self.upstream_dim, self.upstream_rate, len(self.characters)
        )

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list[Transcript]:
        """Return one transcript per utterance from ``(frames_i, upstream_dim)`` features."""
        log_probs, frames_len = self.log_probs(features)
        require_finite(log_probs, names)
        rows = self.decode(log_probs, frames_len)
        return [Transcript(name, " ".join(words(row))) for name, row in zip(names, rows, strict=True)]
