"""From features to text: the head and greedy CTC decoding to words."""

from collections.abc import Sequence

from torch import Tensor, nn

from downstream_heads.common.heads import pad_features
from downstream_heads.elp_asr.characters import Characters, collapse, words


class Transcriber:
    """Mixin for modules that transcribe.

    Attributes:
        projector: maps to the width of the recurrent head; an identity for the linear head.
        model: ``RecurrentHead`` or ``LinearHead``.
        characters: the symbols of the head's outputs.
    """

    projector: nn.Module
    model: nn.Module
    characters: Characters

    def log_probs(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map ``(frames_i, dim)`` features to log-probabilities ``(batch, frames, symbols)`` and lengths on the CPU."""
        padded, frames_len = pad_features(features)
        # pack_padded_sequence needs lengths on the CPU
        logits, frames_len = self.model(self.projector(padded), frames_len.cpu())
        return logits.float().log_softmax(dim=-1), frames_len

    def decode(self, log_probs: Tensor, frames_len: Tensor) -> list[list[str]]:
        """Decode greedily to the symbols of each utterance."""
        best = log_probs.argmax(dim=-1).tolist()  # (batch, frames)
        lengths = frames_len.tolist()
        paths = (path[:length] for path, length in zip(best, lengths, strict=True))
        return [self.characters.tokens(collapse(path, Characters.blank)) for path in paths]

    def transcribe(self, features: Sequence[Tensor]) -> list[str]:
        """Map ``(frames_i, dim)`` features to the words of each utterance, separated by spaces."""
        return [" ".join(words(row)) for row in self.decode(*self.log_probs(features))]
