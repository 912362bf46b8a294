"""The clips of a split: drawn equally from all classes, with SUPERB's gain."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from downstream_heads.common import size
from downstream_heads.common.lengths import header_lengths
from downstream_heads.common.loaders import AudioReader
from upstream_elp.audio.reading import SAMPLE_RATE
from upstream_elp.audio.sox import apply_effects_tensor
from upstream_elp.corpora.speech_commands import CLASSES, SILENCE, Row

GAIN = (("gain", "-3.0"),)
"""The last effect of S3PRL's task; the reader handles channels and rate."""
SECOND = SAMPLE_RATE
"""Samples of a noise file that make one example of silence."""


def softer(wav: Tensor) -> Tensor:
    """Apply SUPERB's gain, as SoX computes it. Shape: ``(samples,)``."""
    return apply_effects_tensor(wav.unsqueeze(0), SAMPLE_RATE, GAIN)[0][0]


class Reader(AudioReader):
    """Reads a file and applies SUPERB's gain."""

    def _read(self, path: Path | str) -> Tensor:
        return softer(super()._read(path))


@dataclass(frozen=True)
class Clip:
    """One item: a file, and for silence the start of its second, from 0 (the start) to 1 (the last that fits)."""

    row: Row
    start: float = 0.0

    def cut(self, wav: Tensor) -> Tensor:
        """Return the whole utterance, or a second of noise. Shape: ``(samples,)``."""
        left = len(wav) - SECOND
        if self.row.label != SILENCE or left <= 0:
            return wav
        begin = round(self.start * left)
        return wav[begin : begin + SECOND]

    def length(self, whole: int) -> int:
        """Return the samples of the item, of the ``whole`` samples of its file."""
        return min(whole, SECOND) if self.row.label == SILENCE else whole


def limited(root: Path, rows: Sequence[Row], options: Mapping[str, Any]) -> list[Row]:
    """The part of the training set that the options ask for, and all noise, which is a class of its own."""
    kept = set(size.limited(root, [row for row in rows if row.label != SILENCE], options))
    return [row for row in rows if row.label == SILENCE or row in kept]


def draw(rows: Sequence[Row], *, seed: int) -> list[Clip]:
    """Draw as many clips as there are rows, with replacement, so that all classes are equally likely.

    S3PRL draws with a ``WeightedRandomSampler`` and the same weights in every pass over train and dev, and takes a
    random second of a noise file.
    """
    counts = Counter(row.label for row in rows)
    weights = torch.tensor([1 / counts[row.label] for row in rows], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    places = torch.multinomial(weights, len(rows), replacement=True, generator=generator).tolist()
    starts = torch.rand(len(rows), generator=generator).tolist()
    return [Clip(rows[place], start) for place, start in zip(places, starts, strict=True)]


class Keywords(Dataset):
    """Clips of one split; an item is ``(wav, class index, name)``.

    Args:
        root: corpus root.
        rows: the files of the split.
        audio: reads the files.
        clips: the items; by default, one per row.
    """

    def __init__(
        self, root: Path, rows: Sequence[Row], *, audio: AudioReader, clips: Sequence[Clip] | None = None
    ) -> None:
        self.root, self.rows, self.audio = root, list(rows), audio
        self._whole: dict[str, int] = {}  # samples of each file; shared with the draws of all epochs
        self.clips = [Clip(row) for row in rows] if clips is None else list(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def files(self) -> list[Path]:
        """Return the audio files of the split."""
        return [self.root / row.path for row in self.rows]

    def item_names(self) -> list[str]:
        """Return the names of the items."""
        return [clip.row.name for clip in self.clips]

    def lengths(self) -> list[int]:
        """Return the samples of each item, from its file's header."""
        if not self._whole:
            files = [row.path for row in self.rows]
            self._whole.update(zip(files, header_lengths(self.root, files), strict=True))
        return [clip.length(self._whole[clip.row.path]) for clip in self.clips]

    def drawn(self, *, seed: int) -> "Keywords":
        """Return the same split with newly drawn clips."""
        drawn = Keywords(self.root, self.rows, audio=self.audio, clips=draw(self.rows, seed=seed))
        drawn._whole = self._whole
        return drawn

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        clip = self.clips[index]
        wav = clip.cut(self.audio(self.root / clip.row.path))
        return wav.numpy(), CLASSES.index(clip.row.label), clip.row.name
