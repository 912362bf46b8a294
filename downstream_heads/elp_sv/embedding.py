"""From features to speaker embeddings, and from two embeddings to a score."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from downstream_heads.common.heads import pad_features
from downstream_heads.elp_sv.ecapa import Ecapa
from downstream_heads.elp_sv.mhfa import Mhfa
from downstream_heads.elp_sv.model import XVECTOR_MIN_FRAMES, MeanPooling, XVector
from upstream_elp.base.errors import ElpError

NETWORKS = {"ecapa": Ecapa, "mhfa": Mhfa}
"""Heads that need no projection first; their options are the arguments."""


def frames_needed(head: str) -> int:
    """Return the fewest frames that a head accepts."""
    return XVECTOR_MIN_FRAMES if head == "superb" else 1


class Embedder:
    """Mixin for modules that compute embeddings.

    Attributes:
        connector: ``Linear(upstream_dim, dim)``, under S3PRL's name; an identity for ECAPA-TDNN and MHFA.
        model: the speaker network.
        min_frames: number of frames that the head needs.
        least: number of samples that backbone and head need.
    """

    task: str
    upstream_dim: int
    upstream_rate: int
    min_samples: int
    connector: nn.Module
    model: nn.Module
    min_frames: int
    least: int

    def set_lengths(self, head: str) -> None:
        """Set the lengths that a head needs."""
        self.min_frames = frames_needed(head)
        self.least = self.min_samples + (self.min_frames - 1) * self.upstream_rate

    def build_embedder(self, head: str, options: Mapping[str, Any]) -> int:
        """Build ``connector`` and ``model`` in S3PRL's order; return the width of embeddings."""
        if head in NETWORKS:
            self.connector, self.model = nn.Identity(), NETWORKS[head](self.upstream_dim, **options)
            return options["embedding_dim"]
        dim = options["input_dim" if head == "superb" else "projector_dim"]
        self.connector = nn.Linear(self.upstream_dim, dim)
        if head == "superb":
            layers = {key: options[key] for key in ("agg_dim", "dropout_p", "batch_norm")}
            self.model = XVector(dim, **layers)
        else:
            self.model = MeanPooling()
        return dim

    def hidden(self, features: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Map a list of `(frames_i, upstream_dim)` features to `(batch, frames, dim)` and the lengths `(batch,)`."""
        if not features:
            raise ElpError(f"{self.task} was given an empty batch")
        padded, frames_len = pad_features(features)
        for name, length in zip(names, frames_len.tolist(), strict=True):
            if length < self.min_frames:
                raise ElpError(f"{name} has {length} frames, fewer than the {self.min_frames} that the head needs")
        return self.connector(padded), frames_len

    def embed(self, features: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Map a list of `(frames_i, upstream_dim)` features to embeddings `(batch, dim)` of length 1, on the CPU."""
        vectors = F.normalize(self.model.embed(*self.hidden(features, names)), dim=-1)
        return vectors.detach().float().cpu()


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return the scores of pairs, from -1 to 1. Shape: `(pairs, dim)`, `(pairs, dim)` -> `(pairs,)`."""
    return F.cosine_similarity(first, second, dim=-1)
