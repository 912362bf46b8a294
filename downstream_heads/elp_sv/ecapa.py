"""ECAPA-TDNN (Desplanques et al. 2020, arXiv 2005.07143), written from the paper's description.

The padding of a batch changes nothing: it is zero before every convolution, as what lies outside an utterance is, and
neither averages nor batch norms see it. Tensors are `(batch, channels, frames)`; `inside` is `(batch, frames)` and True
for an utterance's own frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from downstream_heads.common.heads import own_frames

DILATIONS = (2, 3, 4)
"""Distance between the frames that each block sees; their number is the number of blocks."""
SQUEEZED = 128
"""Width of the layer that finds a block's channel weights."""
LEAST_VARIANCE = 1e-5
"""Keeps the gradient of the standard deviation finite where all frames are alike."""


class Layer(nn.Module):
    """Convolution, ReLU, batch norm over the utterances' own frames."""

    def __init__(self, input_dim: int, output_dim: int, *, size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(input_dim, output_dim, size, dilation=dilation, padding=dilation * (size - 1) // 2)
        self.norm = nn.BatchNorm1d(output_dim)

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        rows = F.relu(self.conv(hidden)).transpose(1, 2)  # (batch, frames, channels)
        own = self.norm(rows[inside])  # (frames of all utterances, channels)
        return torch.zeros_like(rows).index_put((inside,), own).transpose(1, 2)


class Res2(nn.Module):
    """Convolutions over parts of the channels, each of which also sees the result of the part before."""

    def __init__(self, channels: int, *, scale: int, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.layers = nn.ModuleList(Layer(width, width, size=3, dilation=dilation) for _ in range(scale - 1))

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        first, *parts = hidden.chunk(len(self.layers) + 1, dim=1)
        done = [first]
        for number, (layer, part) in enumerate(zip(self.layers, parts, strict=True)):
            done.append(layer(part + done[-1] if number else part, inside))
        return torch.cat(done, dim=1)


class Block(nn.Module):
    """An SE-Res2Block: two layers around `Res2`, weights for the channels, and a residual connection."""

    def __init__(self, channels: int, *, scale: int, dilation: int) -> None:
        super().__init__()
        self.before, self.after = Layer(channels, channels), Layer(channels, channels)
        self.middle = Res2(channels, scale=scale, dilation=dilation)
        self.squeeze, self.excite = nn.Linear(channels, SQUEEZED), nn.Linear(SQUEEZED, channels)

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        found = self.after(self.middle(self.before(hidden, inside), inside), inside)
        mean = found.sum(dim=2) / inside.sum(dim=1, keepdim=True)  # (batch, channels)
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        return hidden + found * weights.unsqueeze(2)


class AttentivePooling(nn.Module):
    """Mean and standard deviation over time, weighted per channel by an attention that knows the unweighted ones."""

    def __init__(self, dim: int, attention_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(3 * dim, attention_dim, 1)
        self.scores = nn.Conv1d(attention_dim, dim, 1, bias=False)  # the same for all frames, a bias changes nothing

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Map `(batch, dim, frames)` to `(batch, 2 * dim)`."""
        even = inside.unsqueeze(1) / inside.sum(dim=1).view(-1, 1, 1)  # (batch, 1, frames)
        around = torch.cat(weighted_statistics(frames, even), dim=1).unsqueeze(2)  # (batch, 2 * dim, 1)
        context = torch.cat([frames, around.expand(-1, -1, frames.shape[2])], dim=1)
        scores = self.scores(torch.tanh(self.hidden(context)))
        weights = scores.masked_fill(~inside.unsqueeze(1), -torch.inf).softmax(dim=2)  # (batch, dim, frames)
        return torch.cat(weighted_statistics(frames, weights), dim=1)


def weighted_statistics(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and standard deviation over frames, each `(batch, dim)`."""
    mean = (weights * frames).sum(dim=2, keepdim=True)
    variance = (weights * (frames - mean) ** 2).sum(dim=2)
    return mean.squeeze(2), variance.clamp_min(LEAST_VARIANCE).sqrt()


class Ecapa(nn.Module):
    """Features of all frames to one vector per utterance, for the loss and for trials.

    Args:
        input_dim: features per frame.
        channels: width of the blocks.
        scale: number of parts of the channels in a block.
        attention_dim: width of the attention's hidden layer.
        agg_dim: width of the frames that are pooled.
        embedding_dim: width of the embedding.
    """

    def __init__(
        self, input_dim: int, *, channels: int, scale: int, attention_dim: int, agg_dim: int, embedding_dim: int
    ) -> None:
        super().__init__()
        self.first = Layer(input_dim, channels, size=5)
        self.blocks = nn.ModuleList(Block(channels, scale=scale, dilation=dilation) for dilation in DILATIONS)
        self.aggregate = nn.Conv1d(len(DILATIONS) * channels, agg_dim, 1)
        self.pooling = AttentivePooling(agg_dim, attention_dim)
        self.pooled_norm = nn.BatchNorm1d(2 * agg_dim)
        self.embedding = nn.Linear(2 * agg_dim, embedding_dim, bias=False)  # the norm after it has one
        self.embedding_norm = nn.BatchNorm1d(embedding_dim)

    def embed(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Return embeddings. Shape: `(batch, frames, input_dim)`, `(batch,)` -> `(batch, embedding_dim)`."""
        inside = own_frames(hidden, frames_len)
        hidden = hidden.masked_fill(~inside.unsqueeze(2), 0.0).transpose(1, 2)  # (batch, input_dim, frames)
        total = self.first(hidden, inside)
        found = []
        for block in self.blocks:  # a block sees the sum of everything before it
            found.append(block(total, inside))
            total = total + found[-1]
        frames = F.relu(self.aggregate(torch.cat(found, dim=1)))  # (batch, agg_dim, frames)
        pooled = _norm(self.pooled_norm, self.pooling(frames, inside))
        return _norm(self.embedding_norm, self.embedding(pooled))

    def to_loss(self, embedding: Tensor) -> Tensor:
        """Return the input of the loss, which is the embedding."""
        return embedding

    forward = embed


def _norm(norm: nn.BatchNorm1d, vectors: Tensor) -> Tensor:
    """Normalise over a batch; a single utterance has no variance, so the running one is used, as in evaluation."""
    if norm.training and len(vectors) == 1:
        options = {"training": False, "eps": norm.eps}
        return F.batch_norm(vectors, norm.running_mean, norm.running_var, norm.weight, norm.bias, **options)
    return norm(vectors)
