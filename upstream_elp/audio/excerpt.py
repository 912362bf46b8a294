"""A part of an utterance that is cut from its features instead of its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Excerpt:
    """A whole utterance, and which part of its features to use."""

    wave: np.ndarray
    """Shape: ``(samples,)``."""
    start: float
    """Where the part starts: 0 for the first frame, 1 for the last possible one."""
    samples: int
    """Length of the part; at most that of the wave."""

    def __len__(self) -> int:
        return self.samples

    def cut(self, features: Tensor, frames: int) -> Tensor:
        """Return some of the frames. Shape: ``(recorded, all frames, width)`` -> ``(recorded, frames, width)``."""
        first = round(self.start * (features.shape[1] - frames))
        return features[:, first : first + frames]
