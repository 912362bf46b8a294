"""Reading an audio file into a tensor, with one sentence on what is wrong if that fails.

Files are decoded by libsndfile (see :mod:`upstream_elp.audio.decoding`) and resampled by soxr. A frozen backbone needs
at least one frame of its convolutional front end, so the minimum length is 400 samples (25 ms at 16 kHz). A shorter
utterance is refused here, because inside a batch it would pass silently, with a wrong padding mask.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
import torch

from upstream_elp.audio.decoding import Decoder, Dtype, Undecodable, decoding, part
from upstream_elp.audio.front import SAMPLE_RATE, STANDARD
from upstream_elp.audio.levels import LEVELS
from upstream_elp.audio.segments import Segment, split
from upstream_elp.base.errors import AudioError, ElpError, counted

MIN_SAMPLES = STANDARD.min_samples
"""400: the receptive field, in samples, of the wav2vec 2.0 front end that all named backbones share."""
CHANNEL_RULES = ("error", "mean", "first")

PathLike = str | os.PathLike[str]


def load_audio(
    path: PathLike,
    *,
    sample_rate: int = SAMPLE_RATE,
    resample: bool = False,
    channels: Literal["error", "mean", "first"] = "error",
    min_samples: int = MIN_SAMPLES,
) -> torch.Tensor:
    """Load one utterance.

    Args:
        path: audio file (wav, flac or another format of libsndfile), or a part of one
            (see :mod:`upstream_elp.audio.segments`).
        sample_rate: sample rate of the result in Hz.
        resample: whether to resample files with another rate (soxr, high quality); otherwise they are refused.
        channels: what to do with several channels: refuse them, average them, or keep the first.
        min_samples: minimum length in samples, after resampling.

    Returns:
        float32 tensor in [-1, 1]. Shape: `(samples,)`.

    Raises:
        ElpError: the file is missing, unreadable, cut off, empty or too short, has another rate or several channels, or
            contains samples that are not finite.
    """
    if channels not in CHANNEL_RULES:
        raise ElpError(f"channels must be one of {', '.join(CHANNEL_RULES)}, but is {channels!r}")
    wav, rate = read_samples(path)
    mono = _to_mono(wav, channels, path)  # (samples, channels) -> (samples,)
    if rate != sample_rate:
        if not resample:
            raise AudioError(
                f"{path} has a sample rate of {rate} Hz instead of {sample_rate}; convert the file or allow resampling",
                path,
                option="resample",
            )
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    check_samples(mono, path, min_samples)
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))


def read_samples(path: PathLike, *, dtype: Dtype = "float32") -> tuple[np.ndarray, int]:
    """Decode a file, or a part of it, without any conversion.

    Args:
        path: audio file, or a part of one (see :mod:`upstream_elp.audio.segments`).
        dtype: `float32` or `float64` in [-1, 1], or `int32` with the file's bits in the most significant positions.

    Returns:
        The samples, shape `(samples, channels)`, and the rate in Hz.

    Raises:
        ElpError: the file is missing, cannot be decoded, or ends earlier than its header says.
    """
    with _opened(path) as (file, segment):
        rate = file.samplerate
        wav = file.samples(dtype) if segment is None else part(file, segment, dtype)
    LEVELS.note(wav, path)
    return wav, rate


def audio_length(path: PathLike) -> int:
    """Return the samples per channel that `read_samples` returns, from the header or, if need be, counted.

    Raises:
        ElpError: the file is missing or is not an audio file.
    """
    with _opened(path) as (file, segment):
        return file.length() if segment is None else len(part(file, segment))


def audio_subtype(path: PathLike) -> str:
    """Return the encoding of the samples as libsndfile names it (`PCM_16`, `FLOAT`, …), from the header."""
    with _opened(path) as (file, _):
        return file.subtype


@contextlib.contextmanager
def _opened(path: PathLike) -> Iterator[tuple[Decoder, Segment | None]]:
    name, segment = split(path)
    if not Path(name).is_file():
        raise AudioError(f"{name} is not a file; check the corpus root and the list that names this audio file", path)
    try:
        with decoding(name) as file:
            yield file, segment
    except Undecodable as error:
        sentence = f"{path} cannot be decoded as audio: {error.with_advice('replace the file')}"
        raise AudioError(sentence, path) from error


def _to_mono(wav: np.ndarray, rule: str, path: PathLike) -> np.ndarray:
    """Convert `(samples, channels)` to `(samples,)`."""
    count = wav.shape[1]
    if count == 1 or rule == "first":
        return wav[:, 0]
    if rule == "mean":
        return wav.mean(axis=1)
    sentence = f"{path} has {count} channels instead of 1; convert the file or allow mean or first"
    raise AudioError(sentence, path, option="channels")


def check_samples(wav: np.ndarray, path: PathLike, min_samples: int = MIN_SAMPLES) -> None:
    """Refuse a wave that is empty, too short, or contains samples that are not finite.

    Args:
        wav: shape `(samples,)`.
        path: what to call it in errors.
        min_samples: minimum length in samples.

    Raises:
        ElpError: names the wave.
    """
    if wav.size == 0:
        raise AudioError(f"{path} is empty (0 samples); remove the file from the list or replace it", path)
    if wav.size < min_samples:
        raise AudioError(
            f"{path} has only {wav.size} samples, fewer than the {min_samples} that a backbone needs; "
            "remove the file from the list or replace it",
            path,
        )
    if not np.isfinite(wav).all():
        bad = int(wav.size - np.isfinite(wav).sum())
        count = counted(bad, "sample that is", "samples that are")
        raise AudioError(f"{path} contains {count} NaN or infinite; replace the file", path)
