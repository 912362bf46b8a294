"""Reads one audio file into a tensor, and says in one sentence what is wrong with it when that fails.

Decoding is libsndfile's (wav, flac and what else it knows), resampling is soxr's. A frozen backbone needs at least one
frame of its convolutional front end, hence the smallest length of 400 samples (25 ms at 16 kHz): a shorter utterance
passes silently inside a batch, with a wrong padding mask, so it is refused here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
import torch

from upstream_elp.errors import AudioError, ElpError, counted

SAMPLE_RATE = 16000
"""Rate in Hz that every backbone of S3PRL expects."""
MIN_SAMPLES = 400
"""Receptive field, in samples, of one frame of the wav2vec 2.0 front end that all supported backbones share."""
STREAMED = 0x7FFF_0000
"""Sizes in a wav header from here on mean "unknown": a program that writes to a pipe cannot fill them in later."""
SYSTEM_ERROR = 2
"""libsndfile's SF_ERR_SYSTEM."""
UNKNOWN_FORMAT = (1, 4, 18)
"""libsndfile's SF_ERR_UNRECOGNISED_FORMAT, SF_ERR_UNSUPPORTED_ENCODING and SFE_UNIMPLEMENTED."""
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
    """Loads one utterance.

    Args:
        path: audio file (wav, flac or another format of libsndfile).
        sample_rate: rate in Hz of the result.
        resample: whether a file of another rate is resampled (soxr, high quality) or refused.
        channels: what to do with several channels: refuse them, average them, or keep the first.
        min_samples: smallest length in samples that is accepted, after resampling.

    Returns:
        float32 tensor in [-1, 1]. Shape: `(samples,)`.

    Raises:
        ElpError: the file is missing, unreadable, cut off, empty, too short, of another rate, of several channels, or
            holds samples that are no numbers.
    """
    if channels not in CHANNEL_RULES:
        raise ElpError(f"channels={channels!r} is unknown; choose one of {', '.join(CHANNEL_RULES)}")
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


def read_samples(
    path: PathLike, *, dtype: Literal["float32", "float64", "int32"] = "float32"
) -> tuple[np.ndarray, int]:
    """Decodes a whole file without any conversion.

    Args:
        path: audio file.
        dtype: `float32` or `float64` in [-1, 1], or `int32` with the file's bits in the upper places.

    Returns:
        The samples, shape `(samples, channels)`, and the rate in Hz.

    Raises:
        ElpError: the file is missing, cannot be decoded, or ends before its header says.
    """
    try:
        _check_exists(path)
        with soundfile.SoundFile(_name(path)) as file:
            wav, rate, announced = file.read(dtype=dtype, always_2d=True), file.samplerate, file.frames
            exact = file.format != "MP3"  # whose length may be an estimate
        if wav_is_cut(path) or (exact and len(wav) < announced):
            raise AudioError(
                f"{path} is cut off: its header announces more samples than it holds; replace the file", path
            )
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless .raw needs parameters
        raise _unreadable(path, error) from error
    return wav, rate


def wav_is_cut(path: PathLike) -> bool:
    """Whether a wav file holds less audio than its header announces; libsndfile silently reads what is there."""
    with Path(path).open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return False
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return os.fstat(file.fileno()).st_size < file.tell() + size < file.tell() + STREAMED
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def audio_length(path: PathLike) -> int:
    """Number of samples per channel, from the header alone.

    Raises:
        ElpError: the file is missing or is no audio file.
    """
    return int(_info(path).frames)


def audio_subtype(path: PathLike) -> str:
    """How the samples are coded, in libsndfile's words (`PCM_16`, `FLOAT`, …), from the header alone."""
    return _info(path).subtype


def _info(path: PathLike) -> Any:
    try:
        _check_exists(path)
        return soundfile.info(_name(path))
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error


def _name(path: PathLike) -> str | bytes:
    """What soundfile opens; by itself it encodes a name strictly, and refuses one that is no valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _check_exists(path: PathLike) -> None:
    if not Path(path).is_file():
        raise AudioError(f"{path} is not a file; check the corpus root and the list that names this audio file", path)


def _unreadable(path: PathLike, error: Exception) -> AudioError:
    return AudioError(f"{path} cannot be decoded as audio: {why_unreadable(error)}; replace the file", path)


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file that libsndfile does not read, with the library's own reason in brackets."""
    reason = getattr(error, "error_string", None) or error  # soundfile's whole text repeats the path, as bytes
    reason = " ".join(str(reason).split()).removeprefix("Error : ").rstrip(".")
    code = getattr(error, "code", None)
    if code == SYSTEM_ERROR or isinstance(error, OSError):
        return f"it cannot be opened ({reason})"
    if code in UNKNOWN_FORMAT or isinstance(error, TypeError):
        return f"it is damaged or of no format that is known here ({reason})"
    return f"it is cut off or damaged ({reason})"


def _to_mono(wav: np.ndarray, rule: str, path: PathLike) -> np.ndarray:
    """`(samples, channels)` -> `(samples,)`."""
    count = wav.shape[1]
    if count == 1 or rule == "first":
        return wav[:, 0]
    if rule == "mean":
        return wav.mean(axis=1)
    sentence = f"{path} has {count} channels instead of 1; convert the file or allow mean or first"
    raise AudioError(sentence, path, option="channels")


def check_samples(wav: np.ndarray, path: PathLike, min_samples: int = MIN_SAMPLES) -> None:
    """Refuse a wave that is empty, too short, or holds samples that are no numbers.

    Args:
        wav: shape `(samples,)`.
        path: what to call it in errors.
        min_samples: smallest length in samples that is accepted.

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
        raise AudioError(f"{path} holds {count} NaN or infinite; replace the file", path)
