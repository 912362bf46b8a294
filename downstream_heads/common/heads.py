"""Utterance-level heads and the pooling they need."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad ``(frames_i, dim)`` features to ``(batch, frames, dim)``; return them and their lengths, on one device."""
    frames_len = torch.tensor([len(feature) for feature in features], device=features[0].device)
    return pad_sequence(list(features), batch_first=True), frames_len


def own_frames(hidden: Tensor, frames_len: Tensor) -> Tensor:
    """Return which frames of a batch are an utterance's own and not padding.

    Shape:
        hidden ``(batch, frames, dim)``, frames_len ``(batch,)`` -> ``(batch, frames)`` of bool
    """
    return torch.arange(hidden.shape[1], device=hidden.device) < frames_len.to(hidden.device).unsqueeze(1)


def masked_mean(hidden: Tensor, frames_len: Tensor) -> Tensor:
    """Return the mean over each utterance's own frames.

    Shape:
        hidden ``(batch, frames, dim)``, frames_len ``(batch,)`` -> ``(batch, dim)``
    """
    inside = own_frames(hidden, frames_len)
    total = hidden.masked_fill(~inside.unsqueeze(-1), 0.0).sum(dim=1)  # (batch, dim)
    return total / frames_len.to(hidden).unsqueeze(-1)


class _PostNet(nn.Module):
    """A linear layer with the name that it has in S3PRL's ``FrameLevel``."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden)


class SuperbMeanHead(nn.Module):
    """SUPERB's utterance head after the projector: mean over frames, one linear layer.

    State-dict keys (``post_net.linear.*``) and output are those of S3PRL's ``UtteranceLevel`` with ``MeanPooling``
    (downstream/model.py:34, 63), bit for bit: each utterance is averaged separately, because a masked sum over the
    padded batch rounds differently.
    """

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.post_net = _PostNet(input_dim, output_dim)

    def forward(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """``(batch, frames, dim)``, ``(batch,)`` -> ``(batch, classes)``."""
        pooled = [row[:length].mean(dim=0) for row, length in zip(hidden, frames_len.tolist(), strict=True)]
        return self.post_net(torch.stack(pooled))


class LinearMeanHead(nn.Module):
    """The light head of the L-E reference after the projector: masked mean over frames, one linear layer.

    There is no non-linearity between projector, pooling and classifier, so it computes the same function as
    ``SuperbMeanHead`` up to rounding. The two papers differ in their protocols (see each task's ``task.py``).
    """

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(input_dim, output_dim)

    def forward(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """``(batch, frames, dim)``, ``(batch,)`` -> ``(batch, classes)``."""
        return self.classifier(masked_mean(hidden, frames_len))


UTTERANCE_HEADS = {"superb": SuperbMeanHead, "linear": LinearMeanHead}
