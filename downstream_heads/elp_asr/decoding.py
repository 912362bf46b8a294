"""From features to text: the head, greedy CTC decoding and words."""

from collections.abc import Sequence

from torch import Tensor, nn

from downstream_heads.common.heads import pad_features
from downstream_heads.elp_asr.characters import Characters, collapse, words


class Transcriber:
    """Part of a module that transcribes.

    Attributes:
        projector: to the recurrent head's width; an identity before the linear head.
        model: ``RecurrentHead`` or ``LinearHead``.
        characters: what the head's outputs stand for.
    """

    projector: nn.Module
    model: nn.Module
    characters: Characters

    def log_probs(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``(frames_i, dim)`` features -> log-probabilities ``(batch, frames, symbols)`` and lengths on the CPU."""
        padded, frames_len = pad_features(features)
        # pack_padded_sequence wants lengths on the CPU
        logits, frames_len = self.model(self.projector(padded), frames_len.cpu())
        return logits.float().log_softmax(dim=-1), frames_len

    def decode(self, log_probs: Tensor, frames_len: Tensor) -> list[list[str]]:
        """Greedy decoding to symbols, utterance by utterance."""
        best = log_probs.argmax(dim=-1).tolist()  # (batch, frames)
        lengths = frames_len.tolist()
        paths = (path[:length] for path, length in zip(best, lengths, strict=True))
        return [self.characters.tokens(collapse(path, Characters.blank)) for path in paths]

    def transcribe(self, features: Sequence[Tensor]) -> list[str]:
        """``(frames_i, dim)`` features -> the words of each utterance, separated by blanks."""
        return [" ".join(words(row)) for row in self.decode(*self.log_probs(features))]
