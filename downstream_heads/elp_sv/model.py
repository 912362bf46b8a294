"""SUPERB's speaker network and the L-E reference's.

`superb` is S3PRL's x-vector (downstream/sv_voxceleb1/model.py): it has the same state-dict keys and the same outputs
bit for bit, including its oddities. `linear` is the light head of the L-E reference, mean pooling. All speaker networks
have `embed(hidden, frames_len)` for trials and `to_loss(embedding)`, which maps an embedding to the input of the loss.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from downstream_heads.common.heads import masked_mean

TDNN_CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
"""(frames seen, distance between them) of each x-vector layer."""
XVECTOR_SHRINK = sum((size - 1) * dilation for size, dilation in TDNN_CONTEXTS)
"""Frames that all x-vector layers lose together: 14."""
XVECTOR_MIN_FRAMES = XVECTOR_SHRINK + 2
"""The standard deviation of a single remaining frame is nan, so two must remain."""


class Tdnn(nn.Module):
    """One linear layer over a few neighbouring frames, then ReLU (model.py:367)."""

    def __init__(
        self, input_dim: int, output_dim: int, *, context: int, dilation: int, dropout_p: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.input_dim, self.context, self.dilation = input_dim, context, dilation
        self.kernel = nn.Linear(input_dim * context, output_dim)
        if batch_norm:
            self.bn = nn.BatchNorm1d(output_dim)
        self.dropout_p, self.batch_norm = dropout_p, batch_norm

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `(batch, frames, dim)` to `(batch, frames - (context - 1) * dilation, output_dim)`."""
        windows = F.unfold(  # (batch, context * dim, frames')
            hidden.unsqueeze(1), (self.context, self.input_dim), dilation=(self.dilation, 1)
        )
        hidden = F.relu(self.kernel(windows.transpose(1, 2)))  # (batch, frames', output_dim)
        if self.dropout_p:
            hidden = F.dropout(hidden, self.dropout_p, self.training)
        if self.batch_norm:
            hidden = self.bn(hidden.transpose(1, 2)).transpose(1, 2)
        return hidden


class FrameLayers(nn.Module):
    """The five x-vector layers, with S3PRL's name `module`."""

    def __init__(self, input_dim: int, agg_dim: int, *, dropout_p: float, batch_norm: bool) -> None:
        super().__init__()
        outputs = [input_dim] * (len(TDNN_CONTEXTS) - 1) + [agg_dim]
        self.module = nn.Sequential(
            *(
                Tdnn(input_dim, out, context=size, dilation=dilation, dropout_p=dropout_p, batch_norm=batch_norm)
                for out, (size, dilation) in zip(outputs, TDNN_CONTEXTS, strict=True)
            )
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.module(hidden)


class UtteranceLayers(nn.Module):
    """Two layers after pooling; the embedding of a trial is the output of the first."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(input_dim, output_dim)
        self.linear2 = nn.Linear(output_dim, output_dim)

    def embed(self, pooled: Tensor) -> Tensor:
        return F.relu(self.linear1(pooled))

    def to_loss(self, embedding: Tensor) -> Tensor:
        return F.relu(self.linear2(embedding))


class XVector(nn.Module):
    """Frame layers, statistics pooling, utterance layers.

    Args:
        input_dim: width of frames and embedding.
        agg_dim: width of the pooled frames.
        dropout_p: dropout after each frame layer.
        batch_norm: batch normalisation after each frame layer.
    """

    def __init__(self, input_dim: int, agg_dim: int, *, dropout_p: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.framelevel_feature_extractor = FrameLayers(input_dim, agg_dim, dropout_p=dropout_p, batch_norm=batch_norm)
        self.utterancelevel_feature_extractor = UtteranceLayers(2 * agg_dim, input_dim)

    def pool(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Return mean and standard deviation over time: `(batch, frames, input_dim)` -> `(batch, 2 * agg_dim)`.

        Like S3PRL, it includes one frame too many of utterances shorter than the longest in the batch (model.py:48).
        """
        frames = self.framelevel_feature_extractor(hidden)  # (batch, frames - 14, agg_dim)
        valid = [min(length - XVECTOR_SHRINK + 1, frames.shape[1]) for length in frames_len.tolist()]
        mean = torch.stack([row[:length].mean(dim=0) for row, length in zip(frames, valid, strict=True)])
        std = torch.stack([row[:length].std(dim=0) for row, length in zip(frames, valid, strict=True)])
        return torch.cat([mean, std], dim=-1)

    def embed(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Return embeddings. Shape: `(batch, frames, input_dim)`, `(batch,)` -> `(batch, input_dim)`."""
        return self.utterancelevel_feature_extractor.embed(self.pool(hidden, frames_len))

    def to_loss(self, embedding: Tensor) -> Tensor:
        """Return the input of the loss, `(batch, input_dim)`."""
        return self.utterancelevel_feature_extractor.to_loss(embedding)

    def forward(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Return the input of the loss. Shapes as in `embed`."""
        return self.to_loss(self.embed(hidden, frames_len))


class MeanPooling(nn.Module):
    """The L-E reference's pooling; the loss and the trials use the same vector."""

    def forward(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Map `(batch, frames, dim)` and lengths `(batch,)` to `(batch, dim)`."""
        return masked_mean(hidden, frames_len)

    def to_loss(self, embedding: Tensor) -> Tensor:
        """Return the input of the loss, which is the embedding."""
        return embedding

    embed = forward
