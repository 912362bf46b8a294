"""Synthesised speech on disk: shards of about ten minutes, each one int16 array and one JSON index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from upstream_elp.base.errors import ElpError

SAMPLE_RATE = 16000
STRIDE = 320  # samples; utterances start and end at multiples of it
MANIFEST = "manifest.json"
VALIDATION = 20  # one voice in so many is only heard in validation


@dataclass(frozen=True)
class Utterance:
    """A part of a shard: `start` and `samples` at 16 kHz, the number of its voice, and its text."""

    shard: int
    start: int
    samples: int
    voice: int
    text: str


def shard_path(folder: Path, shard: int, ending: str) -> Path:
    """Return a shard's file: ``npy`` for the audio, ``json`` for the index."""
    return folder / f"shard-{shard:04d}.{ending}"


class Speech:
    """A finished folder of speech.

    Args:
        folder: what ``data.py`` wrote.

    Raises:
        ElpError: the folder is missing or unfinished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ElpError(f"{folder} must be finished speech, but has no {MANIFEST}; run data.py first") from error
        self.shards = len(self.manifest["shards"])

    @cached_property
    def waves(self) -> list[np.ndarray]:
        """The shards, each (samples,) int16, mapped into memory."""
        return [np.load(shard_path(self.folder, shard, "npy"), mmap_mode="r") for shard in range(self.shards)]

    @cached_property
    def utterances(self) -> list[Utterance]:
        """All utterances, in order."""
        found = []
        for shard in range(self.shards):
            rows = json.loads(shard_path(self.folder, shard, "json").read_text(encoding="utf-8"))["utterances"]
            found += [Utterance(shard, row["start"], row["samples"], row["voice"], row["text"]) for row in rows]
        return found

    def wave(self, item: Utterance, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Return (samples,) float32 in -1..1, from ``start`` within the utterance."""
        end = item.samples if samples is None else start + samples
        return self.waves[item.shard][item.start + start : item.start + end].astype(np.float32) / 32768.0

    def split(self, least: int) -> tuple[list[Utterance], list[Utterance]]:
        """Return the utterances of at least ``least`` samples: for training, and of the voices kept for validation."""
        long = [item for item in self.utterances if item.samples >= least]
        return [u for u in long if u.voice % VALIDATION], [u for u in long if not u.voice % VALIDATION]
