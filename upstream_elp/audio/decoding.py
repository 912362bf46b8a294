"""Decodes audio files from front to end, and says what is wrong with one that cannot be decoded.

All reading of audio goes through here: what `elp check` accepts, a training, `elp infer` and S3PRL's own tasks read,
sample for sample. Nothing seeks in a codec that cannot, and a length is counted where a header cannot be trusted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import soundfile

from upstream_elp.audio.mpeg import SLACK, samples_of_frames
from upstream_elp.audio.wav_sizes import is_cut, true_sizes
from upstream_elp.base.foreign import recognised

RULES = 2
"""Version of the rules of reading: caches of lengths and faults that were found under other rules are not used."""
BLOCK = 1 << 18
"""Values decoded at a time; everywhere the same, as some codecs of libsndfile lose samples at the end of a block."""
UNKNOWN = 1 << 48
"""More samples than any file has; libsndfile announces 2**63 - 1 where the header does not say (a FLAC of a pipe)."""
SYSTEM_ERROR = 2
"""libsndfile's SF_ERR_SYSTEM."""
UNKNOWN_FORMAT = (1, 4, 18)
"""libsndfile's SF_ERR_UNRECOGNISED_FORMAT, SF_ERR_UNSUPPORTED_ENCODING and SFE_UNIMPLEMENTED."""
CUT = "it is cut off: its header announces more samples than it holds"
CONVERT = "convert it to wav or flac"
FLOATS = ("FLOAT", "DOUBLE")
"""Codings that can hold any number, and not only what lies between -1 and 1."""
_COUNTED_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC")
_COUNTED_CODINGS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", *FLOATS)

Dtype = Literal["int16", "int32", "float32", "float64"]


class Undecodable(Exception):
    """A file that cannot be decoded; its text is the reason, without the file's name.

    Args:
        reason: what is wrong with the file.
        advice: what to do, where that is more than to replace the file.
        passing: whether that is the file system's fault, which may pass, and not the file's.
    """

    def __init__(self, reason: str, *, advice: str = "", passing: bool = False) -> None:
        super().__init__(reason)
        self.advice, self.passing = advice, passing

    def with_advice(self, otherwise: str) -> str:
        """The reason and what to do."""
        return f"{self}; {self.advice or otherwise}"


class Decoder(soundfile.SoundFile):
    """An open file, read from where it stands to its end."""

    def seekable(self) -> bool:
        """False: soundfile then asks for no position while it reads, which some codecs cannot tell."""
        return False

    @property
    def counted(self) -> bool:
        """Whether the header's number of samples is the true one, and seeking is exact."""
        return self.format in _COUNTED_FORMATS and self.subtype in _COUNTED_CODINGS and self.frames < UNKNOWN

    def ends_early(self, total: int) -> bool:
        """Whether ``total`` decoded samples are fewer than the header announces; in MPEG that is an estimate."""
        return total < self.frames < UNKNOWN and not self.subtype.startswith("MPEG")

    def blocks(self, dtype: Dtype = "float32", limit: int | None = None) -> Iterator[np.ndarray]:
        """Decode block by block.

        Args:
            dtype: of the samples.
            limit: how many samples at most; None reads to the end.

        Yields:
            Arrays of the shape (samples, channels).
        """
        size, total = max(1, BLOCK // self.channels), 0
        while limit is None or total < limit:
            asked = size if limit is None else min(size, limit - total)
            block = self.read(asked, dtype=dtype, always_2d=True)
            total += len(block)
            yield block
            if len(block) < asked:
                break

    def samples(self, dtype: Dtype = "float32", *, start: int = 0, count: int | None = None) -> np.ndarray:
        """Decode everything, or a part of it, shape (samples, channels).

        For a part everything is decoded too where seeking is not exact.

        Args:
            dtype: of the samples.
            start: the first one.
            count: how many at most; None for all that follow.

        Raises:
            Undecodable: the file ends before its header says.
        """
        end = None if count is None else start + count
        if start and self.counted:
            self.seek(min(start, self.frames))
        blocks = list(self.blocks(dtype, count if self.counted else None))
        wav = np.concatenate(blocks) if blocks else np.zeros((0, self.channels), dtype=dtype)
        total = len(wav) + (start if self.counted else 0)
        if (end is None or total < end) and self.ends_early(total):
            raise Undecodable(CUT)
        return wav if self.counted else wav[start:end]

    def length(self) -> int:
        """Samples per channel; a file whose header cannot be trusted is decoded.

        Raises:
            Undecodable: the file ends before its header says.
        """
        if self.counted:
            return int(self.frames)
        total = sum(len(block) for block in self.blocks())
        if self.ends_early(total):
            raise Undecodable(CUT)
        return total


@contextlib.contextmanager
def decoding(source: Any) -> Iterator[Decoder]:
    """Open a file for reading.

    Args:
        source: path, or binary file object, which is read to its end.

    Raises:
        Undecodable: it cannot be opened, is cut off or damaged, or is of no known format; also while it is decoded.
    """
    with contextlib.ExitStack() as stack:
        try:
            # from file objects libsndfile does not read every mp3
            place = _copied(source, stack) if hasattr(source, "read") else source
            yield _open(place, stack)
        except (soundfile.SoundFileError, OSError) as error:
            raise _undecodable(place, error) from error


def _open(place: Any, stack: contextlib.ExitStack) -> Decoder:
    with open(_name(place), "rb") as file:  # noqa: PTH123 - takes bytes
        if is_cut(file):
            raise Undecodable(CUT)
        if sizes := true_sizes(file):
            place = _copied(file, stack, sizes)
    try:
        decoder = stack.enter_context(Decoder(_name(place)))
    except TypeError as error:  # a name that ends in .raw: soundfile asks for the format
        raise Undecodable("its format is not known, as a .raw file does not say what it holds") from error
    if (decoder.format, decoder.subtype) == ("PAF", "PCM_24"):
        raise Undecodable("libsndfile loses samples of a PAF of 24 bits", advice=CONVERT)
    if decoder.format == "MP3":
        _check_mp3(place, decoder.frames)
    return decoder


def _check_mp3(place: Any, announced: int) -> None:
    with open(_name(place), "rb") as file:  # noqa: PTH123 - takes bytes
        held = samples_of_frames(file)
    if held > announced + SLACK:
        reason = f"its header does not say how long it is: only {announced:,} of about {held:,} samples can be decoded"
        raise Undecodable(reason, advice=CONVERT)


def _copied(file: IO[bytes], stack: contextlib.ExitStack, changes: Mapping[int, bytes] | None = None) -> Path:
    """A temporary copy of a file, with other bytes at some places."""
    folder = tempfile.TemporaryDirectory(prefix="elp-audio-")
    copy = Path(stack.enter_context(folder)) / "audio"
    with copy.open("wb") as out:
        file.seek(0)
        shutil.copyfileobj(file, out)
        for place, content in (changes or {}).items():
            out.seek(place)
            out.write(content)
    return copy


def _name(path: Any) -> str | bytes:
    """What soundfile opens; by itself it encodes a name strictly, and refuses one that is not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _undecodable(path: Any, error: Exception) -> Undecodable:
    """What is wrong with a file that libsndfile does not read, with the library's own reason in brackets."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
    reason = " ".join(str(reason).split()).removeprefix("Error : ").rstrip(".")
    code = getattr(error, "code", None)
    if code == SYSTEM_ERROR or isinstance(error, OSError):
        return Undecodable(f"it cannot be opened ({reason})", passing=True)
    if found := recognised(path):
        return Undecodable(found.what, advice=found.advice)
    if code in UNKNOWN_FORMAT:
        return Undecodable(f"it is damaged or of no format that is known here ({reason})")
    return Undecodable(f"it is cut off or damaged ({reason})")
