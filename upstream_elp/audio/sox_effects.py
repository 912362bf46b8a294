"""SoX's effects on 32-bit integers, bit for bit, with the exception stated in :mod:`upstream_elp.audio.sox`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import soxr

from upstream_elp.audio.sox_samples import FULL, Audio, clipped, rounded
from upstream_elp.base.errors import ElpError

_FIRST_HORIZON = 4.0
"""Seconds in which the next cut is searched first; doubled until one is found, so that the cost stays linear."""


def channels(wav: np.ndarray, rate: int, count: str) -> Audio:
    """Mix down to one channel (mean), or copy one channel to several."""
    have, want = wav.shape[0], int(count)
    if have == want:
        return wav, rate
    if want == 1:
        total = np.zeros(wav.shape[1])
        for row in wav:  # one product per channel, then the sum: the order decides the last bit
            total += row * (1.0 / have)
        return rounded(total)[None], rate
    if have == 1:
        return np.repeat(wav, want, axis=0), rate
    raise ElpError(f"SoX effect channels from {have} to {want} is not supported; only to 1 or from 1 is")


def resample(wav: np.ndarray, rate: int, target: str) -> Audio:
    """Change the rate, with another filter than SoX's (see :mod:`upstream_elp.audio.sox`)."""
    new_rate = int(target)
    if new_rate == rate:
        return wav, rate
    out = [rounded(soxr.resample(row.astype(np.float64), rate, new_rate, quality="HQ")) for row in wav]
    return np.stack(out), new_rate


def gain(wav: np.ndarray, rate: int, decibel: str) -> Audio:
    """Multiply by `10^(dB/20)`, round half away from zero, and clip."""
    return rounded(wav * 10.0 ** (float(decibel) / 20)), rate


def norm(wav: np.ndarray, rate: int, decibel: str = "0") -> Audio:
    """Scale the largest peak to full scale, or to `decibel` relative to it."""
    peak = max(int(wav.max(initial=0)) / (FULL - 1), int(wav.min(initial=0)) / -FULL)
    if peak == 0:
        return wav, rate
    return rounded(wav * (10.0 ** (float(decibel) / 20) / peak)), rate


def volume(wav: np.ndarray, rate: int, factor: str) -> Audio:
    """Multiply by a factor and, unlike `gain`, truncate."""
    return clipped(wav * float(factor)), rate


def reverse(wav: np.ndarray, rate: int) -> Audio:
    """Reverse the samples."""
    return np.ascontiguousarray(wav[:, ::-1]), rate


def pad(wav: np.ndarray, rate: int, before: str, after: str = "0") -> Audio:
    """Add silence, in seconds."""
    samples = [int(float(seconds) * rate + 0.5) for seconds in (before, after)]
    return np.pad(wav, ((0, 0), samples)), rate


def silence(wav: np.ndarray, rate: int, *arguments: str) -> Audio:
    """Trim leading silence and cut pauses; supports `1 DURATION THRESHOLD% -1 DURATION THRESHOLD%`, mono.

    The level of a sample is the RMS of the last 20 ms up to it. Sound begins with the first of `duration` consecutive
    samples above the threshold. From there everything is kept until `duration` consecutive samples are not above it:
    these are dropped, the RMS window is cleared, and sound has to begin again. Shorter pauses are kept. At the end of
    the audio, samples that have not become sound are dropped, and an unfinished pause is kept.
    """
    start_count, start_time, start_level, stop_count, stop_time, stop_level = arguments
    supported = (start_count, stop_count) == ("1", "-1") and all("." in t for t in (start_time, stop_time))
    if not supported or not all(level.endswith("%") for level in (start_level, stop_level)):
        raise unsupported("silence", arguments)
    if wav.shape[0] != 1:
        raise ElpError(
            f"SoX effect silence only supports 1 channel, but there are {wav.shape[0]}; put 'channels 1' before it"
        )
    kept = _kept_spans(
        wav[0].astype(np.float64),
        window=int(rate / 50),
        start=(int(float(start_time) * rate + 0.5), _level(start_level)),
        stop=(int(float(stop_time) * rate + 0.5), _level(stop_level)),
    )
    return np.concatenate([wav[:, :0], *(wav[:, begin:end] for begin, end in kept)], axis=1), rate


EFFECTS: dict[str, Callable[..., Audio]] = {
    "channels": channels,
    "rate": resample,
    "gain": gain,
    "norm": norm,
    "vol": volume,
    "reverse": reverse,
    "pad": pad,
    "silence": silence,
}
"""Effect name -> function of the samples, the rate and the arguments."""


def _kept_spans(
    wav: np.ndarray, *, window: int, start: tuple[int, float], stop: tuple[int, float]
) -> list[tuple[int, int]]:
    """Return the half-open spans of samples that `silence` keeps, in order."""
    spans, position, total = [], 0, len(wav)
    first = int(_FIRST_HORIZON * 50 * window)
    while position < total:
        horizon = first
        while True:
            chunk = wav[position : position + horizon]
            at_end = position + horizon >= total
            begin, end, cut = _first_span(_rms(chunk, window), start, stop)
            if cut or at_end:
                break
            horizon *= 2
        if begin < len(chunk):
            spans.append((position + begin, position + end))
        position += (end + stop[0]) if cut else len(chunk)
    return spans


def _first_span(rms: np.ndarray, start: tuple[int, float], stop: tuple[int, float]) -> tuple[int, int, bool]:
    """Return the begin and end of the first kept span, and whether a finished pause ends it."""
    begin = _first_run(rms > start[1], start[0])
    if begin == len(rms):
        return begin, begin, False
    past = begin + start[0]
    end = past + _first_run(~(rms[past:] > stop[1]), stop[0])
    return begin, end, end < len(rms)


def _first_run(flags: np.ndarray, length: int) -> int:
    """Return the index of the first of `length` consecutive true values, or the number of values if there are none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).view(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    long = np.flatnonzero(ends - begins >= length)
    return int(begins[long[0]]) if long.size else len(flags)


def _rms(wav: np.ndarray, window: int) -> np.ndarray:
    """Return the running RMS over the last `window` samples (zeros before the first), rounded down.

    Like SoX, this updates the sum of squares in floating point, subtracting the oldest and adding the newest: NumPy's
    cumulative sum is sequential, so it rounds in the same way on the interleaved differences. In silence, the sum can
    thus be slightly below zero; its root is NaN, which compares as not above.
    """
    squares = wav * wav
    changes = np.zeros(2 * len(wav))
    changes[1::2] = squares
    changes[2 * window :: 2] = -squares[: max(len(wav) - window, 0)]
    with np.errstate(invalid="ignore"):
        return np.floor(np.sqrt(np.cumsum(changes)[1::2] / window))


def _level(percent: str) -> float:
    return float(percent[:-1]) / 100 * (FULL - 1)


def unsupported(name: str, arguments: Sequence[str]) -> ElpError:
    """Return the error for an effect with arguments that are not supported."""
    known = "silence 1 SECONDS.0 PERCENT% -1 SECONDS.0 PERCENT%" if name == "silence" else f"{name} with plain numbers"
    return ElpError(f"SoX effect '{name} {' '.join(map(str, arguments))}' is not supported; only '{known}' is")
