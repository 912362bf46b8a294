"""How much disk each kind of cache needs, from the shape of the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from upstream_elp.audio.front import SAMPLE_RATE

BYTES = {"GB in fp32": 4, "GB in fp16 or bf16": 2}
WAVE = 2
"""Bytes of a sample in a corpus with 16 bits."""


@dataclass(frozen=True)
class Shape:
    """What the size of a cache depends on."""

    layers: int
    dim: int
    cnn_dim: int
    stride: int
    """Samples per frame."""


def sizes(shape: Shape, *, hours: float, seconds: float) -> list[dict[str, Any]]:
    """Return one row per kind of cache, with its size and how it compares to the audio.

    Args:
        shape: of the backbone.
        hours: of audio.
        seconds: mean length of an utterance, on which pooled features depend.
    """
    frames = hours * 3600 * SAMPLE_RATE / shape.stride
    states = shape.layers + 1
    values = {
        "pooled": hours * 3600 / seconds * states * shape.dim,
        "layers": frames * states * shape.dim,
        "input_of_layer, the head sees the last state": frames * shape.dim,
        "input_of_layer K, the head sees all states": frames * shape.dim,
        "cnn, projected": frames * shape.dim,
        "cnn, not projected": frames * shape.cnn_dim,
    }
    audio = hours * 3600 * SAMPLE_RATE * WAVE
    rows = []
    for kind, count in values.items():
        gigabytes = {title: count * size / 1e9 for title, size in BYTES.items()}
        more = " (times K + 1)" if " K," in kind else ""
        rows.append({"cache": kind + more, **gigabytes, "x audio (fp32)": count * 4 / audio})
    return rows
