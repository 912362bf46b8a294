"""Decoding audio files from start to end, with an explanation for files that cannot be decoded.

All audio is read through here, so training, `elp infer` and S3PRL's own tasks read every file that `elp check` accepts,
sample for sample. Nothing seeks in a codec that cannot, and samples are counted if a header cannot be trusted.
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
from upstream_elp.audio.segments import Segment
from upstream_elp.audio.wav_sizes import is_cut, true_sizes
from upstream_elp.base.foreign import recognised

RULES = 2
"""Version of the rules for reading; cached lengths and faults from other versions are not used."""
BLOCK = 1 << 18
"""Values decoded at a time; the same everywhere, as some codecs of libsndfile lose samples at the end of a block."""
UNKNOWN = 1 << 48
"""More samples than any file has; libsndfile reports 2**63 - 1 if the header has no length (FLAC from a pipe)."""
SYSTEM_ERROR = 2
"""libsndfile's SF_ERR_SYSTEM."""
UNKNOWN_FORMAT = (1, 4, 18)
"""libsndfile's SF_ERR_UNRECOGNISED_FORMAT, SF_ERR_UNSUPPORTED_ENCODING and SFE_UNIMPLEMENTED."""
CUT = "it is cut off: its header announces more samples than it contains"
CONVERT = "convert it to wav or flac"
FLOATS = ("FLOAT", "DOUBLE")
"""Encodings that can store any number, not only those between -1 and 1."""
_COUNTED_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC")
_COUNTED_CODINGS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", *FLOATS)

Dtype = Literal["int16", "int32", "float32", "float64"]


class Undecodable(Exception):
    """A file that cannot be decoded; the message is the reason, without the file's name.

    Args:
        reason: what is wrong with the file.
        advice: what to do, if not simply replacing the file.
        passing: whether it is a (possibly temporary) fault of the file system, not of the file.
    """

    def __init__(self, reason: str, *, advice: str = "", passing: bool = False) -> None:
        super().__init__(reason)
        self.advice, self.passing = advice, passing

    def with_advice(self, otherwise: str) -> str:
        """Return the reason and what to do."""
        return f"{self}; {self.advice or otherwise}"


class Decoder(soundfile.SoundFile):
    """An open file, read from its current position to its end."""

    def seekable(self) -> bool:
        """Return False, so that soundfile does not ask for positions while reading, which some codecs do not know."""
        return False

    @property
    def counted(self) -> bool:
        """Whether the number of samples in the header is correct, and seeking is exact."""
        return self.format in _COUNTED_FORMATS and self.subtype in _COUNTED_CODINGS and self.frames < UNKNOWN

    def ends_early(self, total: int) -> bool:
        """Return whether ``total`` samples are fewer than the header announces; for MPEG that is only an estimate."""
        return total < self.frames < UNKNOWN and not self.subtype.startswith("MPEG")

    def blocks(self, dtype: Dtype = "float32", limit: int | None = None) -> Iterator[np.ndarray]:
        """Decode block by block.

        Args:
            dtype: type of the samples.
            limit: maximum number of samples; None reads to the end.

        Yields:
            Arrays of shape (samples, channels).
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
        """Decode all samples or a part of them, shape (samples, channels).

        If seeking is not exact, everything is decoded in both cases.

        Args:
            dtype: type of the samples.
            start: index of the first sample.
            count: maximum number of samples; None for all others.

        Raises:
            Undecodable: the file ends earlier than its header says.
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
        """Return the samples per channel; a file is decoded if its header cannot be trusted.

        Raises:
            Undecodable: the file ends earlier than its header says.
        """
        if self.counted:
            return int(self.frames)
        total = sum(len(block) for block in self.blocks())
        if self.ends_early(total):
            raise Undecodable(CUT)
        return total


def part(file: Decoder, segment: Segment, dtype: Dtype = "float32") -> np.ndarray:
    """Decode a part of a file that is at its start, shape (samples, channels).

    Raises:
        Undecodable: the file is shorter than the part says, or than its own header says.
    """
    try:
        if file.counted:
            start, count = segment.samples(int(file.frames), file.samplerate)
            return file.samples(dtype, start=start, count=count)
        wav = file.samples(dtype)
        start, count = segment.samples(len(wav), file.samplerate)
    except ValueError as error:
        raise Undecodable(f"its part {error}", advice="correct the times") from error
    return wav[start : start + count]


@contextlib.contextmanager
def decoding(source: Any) -> Iterator[Decoder]:
    """Open a file for reading.

    Args:
        source: path, or a binary file object, which is read to its end.

    Raises:
        Undecodable: it cannot be opened, is cut off or damaged, or has an unknown format; also while it is decoded.
    """
    with contextlib.ExitStack() as stack:
        try:
            # libsndfile cannot read every mp3 from a file object
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
        raise Undecodable("its format is unknown, as a .raw file has no header") from error
    if (decoder.format, decoder.subtype) == ("PAF", "PCM_24"):
        raise Undecodable("libsndfile loses samples of 24-bit PAF files", advice=CONVERT)
    if decoder.format == "MP3":
        _check_mp3(place, decoder.frames)
    return decoder


def _check_mp3(place: Any, announced: int) -> None:
    with open(_name(place), "rb") as file:  # noqa: PTH123 - takes bytes
        held = samples_of_frames(file)
    if held > announced + SLACK:
        reason = f"its header does not state its length: only {announced:,} of about {held:,} samples can be decoded"
        raise Undecodable(reason, advice=CONVERT)


def _copied(file: IO[bytes], stack: contextlib.ExitStack, changes: Mapping[int, bytes] | None = None) -> Path:
    """Make a temporary copy of a file, with other bytes in some places."""
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
    """Return the name for soundfile, which itself refuses names that are not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _undecodable(path: Any, error: Exception) -> Undecodable:
    """Explain why libsndfile cannot read a file, with its own reason in brackets."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
    reason = " ".join(str(reason).split()).removeprefix("Error : ").rstrip(".")
    code = getattr(error, "code", None)
    if code == SYSTEM_ERROR or isinstance(error, OSError):
        return Undecodable(f"it cannot be opened ({reason})", passing=True)
    if found := recognised(path):
        return Undecodable(found.what, advice=found.advice)
    if code in UNKNOWN_FORMAT:
        return Undecodable(f"it is damaged or has an unknown format ({reason})")
    return Undecodable(f"it is cut off or damaged ({reason})")
