"""Detecting samples far beyond full scale: floating-point audio that contains integers, not numbers from -1 to 1.

Such a file is decoded as it is, so that a model gets a waveform 32768 times too loud. Any sample beyond `LOUDEST`
counts: mixing and lossy codecs exceed 1 slightly, but a factor of 2 is 6 dB. This is a warning and not an error, as
some backbones normalise their waves.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from upstream_elp.base.errors import counted

LOUDEST = 2.0
"""Largest magnitude that may result from decoding, mixing and resampling."""
ADVICE = "samples must lie between -1 and 1: divide 16-bit values by 32768 and write the audio again"
_SHOWN = 10


class LevelWarning(UserWarning):
    """Samples beyond `LOUDEST`."""


class Levels:
    """The files read by a process with samples beyond `LOUDEST`, each with its largest magnitude."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    def note(self, wav: np.ndarray, name: Any) -> None:
        """Check the samples of a file or wave; the first one that is too loud raises a Python warning."""
        if level := excess(wav):
            if not self.peaks:
                warnings.warn(sentence({str(name): level}), LevelWarning, stacklevel=2)
            self.peaks[str(name)] = level

    def take(self) -> dict[str, float]:
        """Return what was noted since the last call."""
        peaks, self.peaks = self.peaks, {}
        return peaks


LEVELS = Levels()
"""The files that this process has read."""


def excess(wav: np.ndarray) -> float:
    """Return the largest magnitude if it is beyond `LOUDEST`, else 0; samples that are not finite do not count."""
    if wav.dtype.kind != "f" or not wav.size:
        return 0.0
    peak = float(max(wav.max(), -wav.min()))  # comparisons with NaN are false
    return peak if LOUDEST < peak < np.inf else 0.0


def sentence(peaks: Mapping[str, float], *, shown: int = _SHOWN) -> str:
    """Return one sentence that names the files; empty if there are none."""
    if not peaks:
        return ""
    names = (f"{name} (up to {peak:.6g})" for name, peak in list(peaks.items())[:shown])
    more = f" and {len(peaks) - shown:,} more" if len(peaks) > shown else ""
    what = counted(len(peaks), "file contains", "files contain")
    return f"{what} samples beyond ±{LOUDEST:g}: {', '.join(names)}{more}; {ADVICE}"
