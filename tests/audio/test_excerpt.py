"""Excerpts: the part of an utterance's features that a crop of its samples would have."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from upstream_elp.audio.excerpt import Excerpt


@given(st.integers(1, 60), st.data())
def test_an_excerpt_has_its_frames_and_reaches_both_ends(total, data):
    frames = data.draw(st.integers(1, total))
    start = data.draw(st.floats(0, 1))
    features = torch.arange(total).reshape(1, total, 1).expand(2, -1, 3)
    part = Excerpt(np.zeros(1000, np.float32), start, 700).cut(features, frames)
    assert part.shape == (2, frames, 3)
    first, last = int(part[0, 0, 0]), int(part[0, -1, 0])
    assert last - first == frames - 1 and first >= 0 and last < total
    if start in (0, 1):
        assert (first == 0) if start == 0 else (last == total - 1)
