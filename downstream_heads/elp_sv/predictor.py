"""Speaker verification with a trained head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from downstream_heads.common.answers import Similarity, Voice
from downstream_heads.common.predictor import Predictor as TaskPredictor
from downstream_heads.common.predictor import require_finite
from downstream_heads.elp_sv.about import TASK
from downstream_heads.elp_sv.data import EFFECTS, long_enough, read_utterance
from downstream_heads.elp_sv.embedding import Embedder, cosines
from downstream_heads.elp_sv.options import TOO_SHORT, head_options
from upstream_elp.audio.reading import SAMPLE_RATE
from upstream_elp.audio.sox import Effects, run_chain
from upstream_elp.audio.sox_samples import int32_to_float32, tensor_to_int32
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import choose, number, read_options


class Predictor(Embedder, TaskPredictor):
    """Computes the task's embeddings and their cosine; s-norm is not applied, as it needs the training corpus.

    The classifier over the training speakers is dropped, as it is useless for other voices.
    """

    about = TASK
    training_only = (*TaskPredictor.training_only, "objective.", "cohort.")
    audio_defaults: ClassVar[dict[str, Any]] = {"too_short": "error", "effects": "superb"}

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked block ``modelrc``."""
        head, options = head_options(modelrc)
        return {"head": head, head: options}

    @classmethod
    def audio_options(cls, datarc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked effects, and what to do with utterances that trimming makes too short."""
        options = read_options(datarc, cls.audio_defaults, where="audio")
        choose(options["too_short"], TOO_SHORT, key="audio.too_short")
        choose(options["effects"], EFFECTS, key="audio.effects")
        return options

    def set_audio(self, options: Mapping[str, Any]) -> None:
        """Set the rules for reading files."""
        self.reading = {"untrimmed": options["too_short"] == "untrimmed", "effects": options["effects"]}

    def set_threshold(self, threshold: Mapping[str, Any] | None) -> None:
        """Set the lowest score of the same speaker; without it, there are no decisions."""
        self.threshold: float | None = None
        if threshold is not None:
            options = read_options(threshold, {"value": None, "split": None, "step": None}, where="threshold")
            self.threshold = float(number(options["value"], key="threshold.value"))

    def build(self, labels: Any) -> None:
        """Build connector and model; the task has no label tables."""
        if labels is not None:
            raise ElpError("the key 'labels' must be null, since speaker verification has no classes")
        head = self.modelrc["head"]
        self.set_lengths(head)
        self.build_embedder(head, self.modelrc[head])

    def read(self, path: str | Path) -> Tensor:
        """Read a file and apply the recipe's effects, which convert rate and channels, normalise and trim pauses."""
        return torch.from_numpy(read_utterance(Path(path), least=self.least, **self.reading))

    def prepare(self, wav: Tensor, name: str) -> Tensor:
        """Apply the recipe's effects to a wave at 16 kHz, ``(samples,)``."""
        whole = tensor_to_int32(super().prepare(wav, name).unsqueeze(0))  # (channels, samples)

        def apply(effects: Effects) -> Tensor:
            return torch.from_numpy(int32_to_float32(run_chain(whole, SAMPLE_RATE, effects)[0]))

        return torch.from_numpy(long_enough(apply, name, least=self.least, **self.reading))

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list[Voice]:
        """Return one embedding per utterance from ``(frames_i, upstream_dim)`` features."""
        vectors = self.embed(features, names)
        require_finite(vectors, names)
        return [Voice(name, vector) for name, vector in zip(names, vectors, strict=True)]

    def compare(self, pairs: Sequence[tuple[Voice, Voice]]) -> list[Similarity]:
        """Score pairs of voices."""
        if not pairs:
            return []
        first, second = (torch.stack([voice.embedding for voice in side]) for side in zip(*pairs, strict=True))
        threshold = self.threshold
        return [
            Similarity(one.file, two.file, score, None if threshold is None else score >= threshold, threshold)
            for (one, two), score in zip(pairs, cosines(first, second).tolist(), strict=True)
        ]
