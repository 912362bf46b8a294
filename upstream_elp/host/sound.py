"""``torchaudio.load`` and ``torchaudio.info`` based on soundfile, with torchaudio's arguments and results."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upstream_elp.audio.decoding import Undecodable, decoding
from upstream_elp.audio.levels import LEVELS
from upstream_elp.base.errors import AudioError

_STORED = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32", "DOUBLE": "float64"}
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}


@dataclass(frozen=True)
class AudioMetaData:
    """The result of torchaudio 2.8's ``info``: rate in Hz, frames, channels, bits per sample, encoding."""

    sample_rate: int
    num_frames: int
    num_channels: int
    bits_per_sample: int
    encoding: str


def load(
    uri: Any,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
    buffer_size: int = 4096,
    backend: str | None = None,
) -> tuple[torch.Tensor, int]:
    """Read an audio file; ``format``, ``buffer_size`` and ``backend`` are accepted but have no effect.

    Args:
        uri: path or binary file object.
        frame_offset: first sample to read.
        num_frames: number of samples to read; -1 for all.
        normalize: whether to return float32 in [-1, 1] instead of the integers as stored.
        channels_first: whether the shape is (channels, samples) instead of (samples, channels).

    Returns:
        The samples and the sampling rate in Hz.

    Raises:
        ElpError: if the file is missing or is not readable audio.
    """
    try:
        with decoding(uri) as file:
            dtype = "float32" if normalize else _STORED.get(file.subtype, "float32")
            count = None if num_frames < 0 else num_frames
            samples = file.samples(dtype, start=max(frame_offset, 0), count=count)  # (samples, channels)
            rate = file.samplerate
    except Undecodable as error:
        raise _unreadable(uri, error) from error
    LEVELS.note(samples, uri)
    wav = torch.from_numpy(np.ascontiguousarray(samples.T if channels_first else samples))
    return wav, rate


def info(uri: Any, format: str | None = None, buffer_size: int = 4096, backend: str | None = None) -> AudioMetaData:
    """Read an audio file's header; all arguments but ``uri`` are accepted but have no effect.

    Raises:
        ElpError: if the file is missing or is not readable audio.
    """
    try:
        with decoding(uri) as file:
            encoding = "FLAC" if file.format == "FLAC" else _encoding(file.subtype)
            bits = _BITS.get(file.subtype, 0)
            return AudioMetaData(file.samplerate, file.length(), file.channels, bits, encoding)
    except Undecodable as error:
        raise _unreadable(uri, error) from error


def _unreadable(uri: Any, error: Undecodable) -> AudioError:
    return AudioError(f"cannot read audio file {uri}: {error.with_advice('replace or remove the file')}", uri)


def _encoding(subtype: str) -> str:
    if subtype.startswith("PCM"):
        return "PCM_U" if subtype.endswith("U8") else "PCM_S"
    return "PCM_F" if subtype in ("FLOAT", "DOUBLE") else subtype
