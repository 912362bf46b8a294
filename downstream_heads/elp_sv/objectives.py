"""The losses of the speaker networks: vectors and speaker indices to a scalar."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AmSoftmax(nn.Module):
    """Additive-margin softmax (Wang et al. 2018), as in S3PRL (model.py:266): `s (cos - m)` for the right speaker.

    Args:
        input_dim: width of the vectors.
        speakers: number of training speakers.
        s: scale of the cosines.
        m: margin by which the right speaker must win.
    """

    def __init__(self, input_dim: int, speakers: int, *, s: float = 30.0, m: float = 0.4) -> None:
        super().__init__()
        self.s, self.m = s, m
        # drawn twice, as in S3PRL, so that the same seed gives the same initial weights
        self.W = nn.Parameter(torch.randn(input_dim, speakers))
        nn.init.xavier_normal_(self.W, gain=1)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Map `(batch, input_dim)` and labels `(batch,)` to the scalar loss."""
        cosines = F.normalize(vectors, dim=1) @ F.normalize(self.W, dim=0)  # (batch, speakers)
        right = F.one_hot(labels, cosines.shape[1]).bool()
        target = self.s * (cosines[right] - self.m)  # (batch,)
        others = cosines[~right].view(len(labels), -1)  # (batch, speakers - 1)
        total = target.exp() + (self.s * others).exp().sum(dim=1)
        return -(target - total.log()).mean()


class AamSoftmax(nn.Module):
    """Additive-angular-margin softmax (Deng et al. 2019): `s cos(angle + m)` for the right speaker.

    The margin is 0 for the first `rise_from` training batches, then rises linearly, and is `m` from batch `rise_to` on.
    The number of batches is part of the state, so a resumed run goes on with its margin.

    Args:
        input_dim: width of the vectors.
        speakers: number of training speakers.
        s: scale of the cosines.
        m: margin in radians.
        rise_from: training batches without a margin.
        rise_to: training batches until the whole margin.
    """

    batches: Tensor

    def __init__(
        self, input_dim: int, speakers: int, *, s: float, m: float, rise_from: int = 0, rise_to: int = 0
    ) -> None:
        super().__init__()
        self.s, self.m, self.rise_from, self.rise_to = s, m, rise_from, rise_to
        self.W = nn.Parameter(torch.empty(input_dim, speakers))
        nn.init.xavier_normal_(self.W, gain=1)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def margin(self) -> float:
        """Return the margin of the next batch, in radians."""
        done = int(self.batches)
        if done >= self.rise_to:
            return self.m
        return self.m * max(0, done - self.rise_from) / (self.rise_to - self.rise_from)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Map `(batch, input_dim)` and labels `(batch,)` to the scalar loss; in training, count the batch."""
        margin = self.margin()
        cosines = F.normalize(vectors, dim=1) @ F.normalize(self.W, dim=0)  # (batch, speakers)
        target = cosines.gather(1, labels.unsqueeze(1))  # (batch, 1)
        sines = (1.0 - target**2).clamp_min(1e-9).sqrt()
        further = target * math.cos(margin) - sines * math.sin(margin)
        # from angle pi - m on, cos(angle + m) would rise again: go on with a straight line, as the paper's code does
        further = torch.where(target > -math.cos(margin), further, target - margin * math.sin(margin))
        if self.training:
            self.batches += 1
        return F.cross_entropy(self.s * cosines.scatter(1, labels.unsqueeze(1), further), labels)


class Softmax(nn.Module):
    """A linear classifier with cross-entropy loss."""

    def __init__(self, input_dim: int, speakers: int) -> None:
        super().__init__()
        self.fc = nn.Linear(input_dim, speakers)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Map `(batch, input_dim)` and labels `(batch,)` to the scalar loss."""
        return F.cross_entropy(self.fc(vectors), labels)
