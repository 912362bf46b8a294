"""The length of an mp3, from the headers of its frames.

libsndfile decodes as many samples as the first frame announces, or an estimate from the first bit rate if that frame
states no length; the rest is lost. For streams that were cut or joined, that can be most of them.
"""

from __future__ import annotations

from typing import IO

_RATES = (44100, 48000, 32000)
_BITS = {  # in kbit/s, by version 1 or 2 and layer
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SLACK = 8 * 1152
"""Samples in frames beyond the encoded ones: encoder delay, padding, and the frame that only states the length."""


def samples_of_frames(file: IO[bytes]) -> int:
    """Return the samples per channel in the frames at the start of a file, after its tags."""
    file.seek(0)
    content = file.read()
    place, total = _after_tag(content), 0
    while frame := _frame(content[place : place + 4]):
        size, samples = frame
        place, total = place + size, total + samples
    return total


def _after_tag(content: bytes) -> int:
    """Return where an ID3 tag at the start ends."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = 0
    for byte in content[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _frame(head: bytes) -> tuple[int, int] | None:
    """Return the bytes and samples of the frame that begins with these four bytes; None if they are not a frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    first = version == 3
    per_second = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    speed, padding = _BITS[1 if first else 2, layer][bits - 1] * 1000, head[2] >> 1 & 1
    if layer == 1:
        return (12 * speed // per_second + padding) * 4, 384
    samples = 576 if layer == 3 and not first else 1152
    return samples // 8 * speed // per_second + padding, samples
