"""How much disk each kind of cache needs, from the shape of the backbone, and how long it takes to fill."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upstream_elp.audio.front import SAMPLE_RATE

if TYPE_CHECKING:
    from upstream_elp.upstream.expert import ElpExpert

BYTES = {"GB in fp32": 4, "GB in fp16 or bf16": 2}
WAVE = 2
"""Bytes of a sample in a corpus with 16 bits."""
TIMED = 3


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


def filling_hours(expert: ElpExpert, *, hours: float, seconds: float) -> list[float]:
    """Return how long one process needs to fill each kind of cache, in hours, in the order of :func:`sizes`.

    Measured with waves of noise on this machine; reading the audio is not included.

    Args:
        expert: a frozen backbone, on the device that a run would use.
        hours: of audio.
        seconds: length of the waves.
    """
    import torch

    from upstream_elp.adapters.lowest import CNN_OUTPUT, ENCODER_INPUT, STATES, layer_input
    from upstream_elp.upstream.replay import Replay

    like = next(expert.backbone.parameters())
    wav = torch.randn(max(expert.min_samples, round(seconds * SAMPLE_RATE))).to(like)
    per_hour: dict[Any, float] = {}
    for place in (STATES, layer_input(0), ENCODER_INPUT, CNN_OUTPUT):
        replay = Replay(expert, place, states=range(expert.injection.layers + 1))
        times = []
        for _ in range(TIMED):
            began = time.perf_counter()
            replay.record(expert, wav).cpu()
            times.append(time.perf_counter() - began)
        replay.remove(expert)
        per_hour[place] = statistics.median(times) / (len(wav) / SAMPLE_RATE)
    places = (STATES, STATES, layer_input(0), layer_input(0), ENCODER_INPUT, CNN_OUTPUT)
    return [hours * per_hour[place] for place in places]
