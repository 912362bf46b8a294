"""Conversion of files and tensors to the 32-bit integers that SoX works on, and back."""

from __future__ import annotations

import numpy as np
import torch

from upstream_elp.audio.reading import PathLike, audio_subtype, read_samples
from upstream_elp.base.errors import AudioError, ElpError

FULL = 2**31
"""One more than the largest 32-bit integer sample of SoX."""
Audio = tuple[np.ndarray, int]
"""Integer samples, int32 of shape `(channels, samples)`, and their rate in Hz."""

_INTEGER_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"}


def read_int32(path: PathLike) -> Audio:
    """Decode a file to the integers that SoX works on.

    Like SoX, this truncates float files towards zero and rounds files of doubles.
    """
    subtype = audio_subtype(path)
    if subtype in _INTEGER_SUBTYPES:
        wav, rate = read_samples(path, dtype="int32")
    else:
        floats, rate = read_samples(path, dtype="float64")
        if not np.isfinite(floats).all():
            raise AudioError(f"{path} contains samples that are NaN or infinite; replace the file", path)
        scaled = floats * FULL
        wav = rounded(scaled) if subtype == "DOUBLE" else clipped(scaled)
    return np.ascontiguousarray(wav.T), rate  # (samples, channels) -> (channels, samples)


def tensor_to_int32(wav: torch.Tensor) -> np.ndarray:
    """Convert float samples in [-1, 1], int16 or int32 to int32 of the same shape."""
    floats = wav.is_floating_point()  # of any precision, including bfloat16, which NumPy does not have
    samples = (wav.double() if floats else wav).detach().cpu().numpy()
    if samples.dtype == np.int32:
        return samples
    if samples.dtype == np.int16:
        return samples.astype(np.int32) << 16
    if not floats:
        raise ElpError(f"SoX effects need float, int16 or int32 samples, but these are {wav.dtype}; convert the tensor")
    if not np.isfinite(samples).all():
        raise ElpError("SoX effects got samples that are NaN or infinite; check the audio")
    return clipped(samples * FULL)


def int32_to_float32(wav: np.ndarray) -> np.ndarray:
    """Convert int32 to float32 in [-1, 1], at the fixed resolution of 24 bits of SoX's float output."""
    return (((wav.astype(np.int64) + 64) & ~127) / FULL).astype(np.float32)


def clipped(values: np.ndarray) -> np.ndarray:
    """Convert float64 to int32, rounding towards zero."""
    return np.clip(values, -FULL, FULL - 1).astype(np.int32)


def rounded(values: np.ndarray) -> np.ndarray:
    """Convert float64 to int32, rounding halves away from zero."""
    return clipped(values + np.copysign(0.5, values))
