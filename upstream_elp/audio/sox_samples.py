"""The 32-bit integers that SoX works on: from files and tensors, and back."""

from __future__ import annotations

import numpy as np
import torch

from upstream_elp.audio.reading import PathLike, audio_subtype, read_samples
from upstream_elp.base.errors import AudioError, ElpError

FULL = 2**31
"""One more than the largest sample of SoX's 32-bit integers."""
Audio = tuple[np.ndarray, int]
"""Integer samples, int32 of shape `(channels, samples)`, and their rate in Hz."""

_INTEGER_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"}


def read_int32(path: PathLike) -> Audio:
    """Decodes a file to the integers that SoX works on.

    Float files are truncated towards zero, files of doubles rounded: that is what SoX does.
    """
    subtype = audio_subtype(path)
    if subtype in _INTEGER_SUBTYPES:
        wav, rate = read_samples(path, dtype="int32")
    else:
        floats, rate = read_samples(path, dtype="float64")
        if not np.isfinite(floats).all():
            raise AudioError(f"{path} holds samples that are NaN or infinite; replace the file", path)
        scaled = floats * FULL
        wav = rounded(scaled) if subtype == "DOUBLE" else clipped(scaled)
    return np.ascontiguousarray(wav.T), rate  # (samples, channels) -> (channels, samples)


def tensor_to_int32(wav: torch.Tensor) -> np.ndarray:
    """float in [-1, 1], int16 or int32 -> int32 of the same shape."""
    floats = wav.is_floating_point()  # of any precision, bfloat16 too, which NumPy does not know
    samples = (wav.double() if floats else wav).detach().cpu().numpy()
    if samples.dtype == np.int32:
        return samples
    if samples.dtype == np.int16:
        return samples.astype(np.int32) << 16
    if not floats:
        raise ElpError(f"SoX effects take float, int16 or int32 samples, not {wav.dtype}; convert the tensor")
    if not np.isfinite(samples).all():
        raise ElpError("SoX effects got samples that are NaN or infinite; check the audio")
    return clipped(samples * FULL)


def int32_to_float32(wav: np.ndarray) -> np.ndarray:
    """int32 -> float32 in [-1, 1], at a fixed resolution of 24 bits as in SoX's float output."""
    return (((wav.astype(np.int64) + 64) & ~127) / FULL).astype(np.float32)


def clipped(values: np.ndarray) -> np.ndarray:
    """float64 -> int32, towards zero."""
    return np.clip(values, -FULL, FULL - 1).astype(np.int32)


def rounded(values: np.ndarray) -> np.ndarray:
    """float64 -> int32, halves away from zero."""
    return clipped(values + np.copysign(0.5, values))
