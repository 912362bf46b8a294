"""The utterances of a split as the head gets them: drawn equally from all classes, at SUPERB's level."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader
from upstream_elp.audio.reading import SAMPLE_RATE
from upstream_elp.audio.sox import apply_effects_tensor
from upstream_elp.corpora.speech_commands import CLASSES, SILENCE, Row

GAIN = (("gain", "-3.0"),)
"""The last of the effects of S3PRL's task; channels and rate are the reader's business."""
SECOND = SAMPLE_RATE
"""How much of a noise file is one example of silence."""


def softer(wav: Tensor) -> Tensor:
    """SUPERB's gain, as SoX computes it. Shape: ``(samples,)`` in and out."""
    return apply_effects_tensor(wav.unsqueeze(0), SAMPLE_RATE, GAIN)[0][0]


class Reader(AudioReader):
    """Reads a file and applies SUPERB's gain."""

    def _read(self, path: Path | str) -> Tensor:
        return softer(super()._read(path))


@dataclass(frozen=True)
class Clip:
    """One item: a file, and for silence where its second begins, from 0 (the start) to 1 (the last one that fits)."""

    row: Row
    start: float = 0.0

    def cut(self, wav: Tensor) -> Tensor:
        """The whole utterance, or a second of noise. Shape: ``(samples,)``."""
        left = len(wav) - SECOND
        if self.row.label != SILENCE or left <= 0:
            return wav
        begin = round(self.start * left)
        return wav[begin : begin + SECOND]


def draw(rows: Sequence[Row], *, seed: int) -> list[Clip]:
    """As many clips as there are rows, drawn with replacement so that each class is as likely as every other.

    S3PRL draws with a ``WeightedRandomSampler`` and the same weights, anew in every pass over train and dev, and takes
    a random second of a noise file.
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
        clips: the items; without them each row is one.
    """

    def __init__(
        self, root: Path, rows: Sequence[Row], *, audio: AudioReader, clips: Sequence[Clip] | None = None
    ) -> None:
        self.root, self.rows, self.audio = root, list(rows), audio
        self.clips = [Clip(row) for row in rows] if clips is None else list(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def files(self) -> list[Path]:
        """The audio files of the split."""
        return [self.root / row.path for row in self.rows]

    def drawn(self, *, seed: int) -> "Keywords":
        """The same split with freshly drawn clips."""
        return Keywords(self.root, self.rows, audio=self.audio, clips=draw(self.rows, seed=seed))

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        clip = self.clips[index]
        wav = clip.cut(self.audio(self.root / clip.row.path))
        return wav.numpy(), CLASSES.index(clip.row.label), clip.row.name
