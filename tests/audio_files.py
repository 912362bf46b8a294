"""Audio files as written by programs, by pipes, or after accidents."""

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def written(samples: np.ndarray, kind: str, subtype: str | None = None) -> bytes:
    """Write a file of a kind with these 16-bit samples."""
    file = io.BytesIO()
    if subtype in ("FLOAT", "DOUBLE"):
        samples = samples / 32768
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def of_unknown_length(flac: bytes) -> bytes:
    """A FLAC as ``ffmpeg -f flac -`` or any pipe leaves it: total samples 0 in its first block."""
    content = bytearray(flac)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def with_sizes(wav: bytes, *, riff: int | None, data: int | None) -> bytes:
    """Set the sizes in the header of a wav; None keeps a size."""
    content, place = bytearray(wav), wav.index(b"data")
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    if data is not None:
        content[place + 4 : place + 8] = struct.pack("<I", data)
    return bytes(content)


def break_late(path: Path) -> None:
    """Damage the samples and not the header, so that only reading detects it."""
    samples, _ = soundfile.read(path)
    samples[len(samples) // 2] = np.nan
    soundfile.write(path, samples, 16000, format="WAV", subtype="FLOAT")
