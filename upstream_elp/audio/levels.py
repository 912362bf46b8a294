"""Samples far beyond full scale: floating-point audio whose numbers are integers, not between -1 and 1.

Such a file is decoded as it is, and a model hears a waveform 32768 times too loud. Any sample beyond `LOUDEST` counts:
mixing and lossy codecs go a little beyond 1, a factor of 2 is 6 dB of it. It is a warning and not an error, as
some backbones standardise their waves.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from upstream_elp.base.errors import counted

LOUDEST = 2.0
"""Samples up to here, on either side, are what decoding, mixing and resampling may leave."""
ADVICE = "samples must lie between -1 and 1: divide 16-bit values by 32768 and write the audio again"
_SHOWN = 10


class LevelWarning(UserWarning):
    """Samples beyond `LOUDEST`."""


class Levels:
    """The files of a process whose samples are beyond `LOUDEST`, each with its largest magnitude."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    def note(self, wav: np.ndarray, name: Any) -> None:
        """Look at the samples of a file or wave; the first one that is too loud is a Python warning."""
        if level := excess(wav):
            if not self.peaks:
                warnings.warn(sentence({str(name): level}), LevelWarning, stacklevel=2)
            self.peaks[str(name)] = level

    def take(self) -> dict[str, float]:
        """What was noted since the last call."""
        peaks, self.peaks = self.peaks, {}
        return peaks


LEVELS = Levels()
"""What this process has read."""


def excess(wav: np.ndarray) -> float:
    """The largest magnitude where it is beyond `LOUDEST`, 0 otherwise; samples that are no numbers do not count."""
    if wav.dtype.kind != "f" or not wav.size:
        return 0.0
    peak = float(max(wav.max(), -wav.min()))  # NaN is not beyond anything
    return peak if LOUDEST < peak < np.inf else 0.0


def sentence(peaks: Mapping[str, float], *, shown: int = _SHOWN) -> str:
    """One sentence that names the files; empty where there is none."""
    if not peaks:
        return ""
    names = (f"{name} (up to {peak:.6g})" for name, peak in list(peaks.items())[:shown])
    more = f" and {len(peaks) - shown:,} more" if len(peaks) > shown else ""
    what = counted(len(peaks), "file holds", "files hold")
    return f"{what} samples beyond ±{LOUDEST:g}: {', '.join(names)}{more}; {ADVICE}"
