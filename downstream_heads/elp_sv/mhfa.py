"""Multi-head factorized attentive pooling (MHFA; Peng et al. 2022), from the paper's description.

In the paper, keys and values are two weighted sums of the backbone's layers, each with its own weights. S3PRL passes
one sum to a head, so here both are computed from that one.
"""

import torch
from torch import Tensor, nn

from downstream_heads.common.heads import own_frames


class Mhfa(nn.Module):
    """Pool compressed frames by the attention of several heads, and map the result to one vector per utterance.

    Args:
        input_dim: features per frame.
        heads: number of heads.
        compression_dim: width of keys and values.
        embedding_dim: width of the embedding.
    """

    def __init__(self, input_dim: int, *, heads: int, compression_dim: int, embedding_dim: int) -> None:
        super().__init__()
        # the softmax over frames takes away any bias of keys and scores
        self.keys = nn.Linear(input_dim, compression_dim, bias=False)
        self.values = nn.Linear(input_dim, compression_dim)
        self.scores = nn.Linear(compression_dim, heads, bias=False)
        self.embedding = nn.Linear(heads * compression_dim, embedding_dim)

    def embed(self, hidden: Tensor, frames_len: Tensor) -> Tensor:
        """Return embeddings. Shape: `(batch, frames, input_dim)`, `(batch,)` -> `(batch, embedding_dim)`."""
        outside = ~own_frames(hidden, frames_len)
        scores = self.scores(self.keys(hidden)).masked_fill(outside.unsqueeze(2), -torch.inf)
        weights = scores.softmax(dim=1)  # (batch, frames, heads)
        pooled = weights.transpose(1, 2) @ self.values(hidden)  # (batch, heads, compression_dim)
        return self.embedding(pooled.flatten(1))

    def to_loss(self, embedding: Tensor) -> Tensor:
        """Return the input of the loss, which is the embedding."""
        return embedding

    forward = embed
