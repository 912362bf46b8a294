"""What each frame sounds like: MFCC, log-mel, classes of F0 and of energy, on the same frames as the model's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from model import CONV, STRIDE, receptive_field
from speech import SAMPLE_RATE
from torch import Tensor

import upstream_elp

FIELD = receptive_field(CONV)
CENTRE = FIELD // 2  # of frame 0, in samples
HOP, WINDOW = 160, 512
MELS, CEPSTRA = 40, 13
F0_RANGE, F0_BINS = (60.0, 450.0), 24  # Hz; class 0 is unvoiced
F0_WINDOW = 640  # samples
ENERGY_CLASSES, ENERGY_STEP = 8, 6.0  # dB; class 7 is the loudest
VOICED = 0.5  # least autocorrelation


def frames_of(samples: int) -> int:
    """Return how many frames the model has for a wave."""
    return max(0, (samples - FIELD) // STRIDE + 1)


class Acoustics:
    """Computes the features of one utterance at a time; each is a method that maps (samples,) to (frames, dim)."""

    def __init__(self) -> None:
        upstream_elp.register()  # torchaudio may need its repairs
        import torchaudio

        options = {"n_fft": WINDOW, "win_length": 400, "hop_length": HOP, "center": False, "n_mels": MELS}
        self._mel = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, f_min=60, f_max=7600, **options)
        self._slopes = torchaudio.functional.compute_deltas
        self._dct = torchaudio.functional.create_dct(CEPSTRA, MELS, "ortho")
        window = torch.hann_window(F0_WINDOW)
        shape = torch.fft.irfft(torch.fft.rfft(window, 2 * F0_WINDOW).abs() ** 2)[:F0_WINDOW]
        self._window, self._bias = window, shape / shape[0]

    def mel(self, wave: Tensor) -> Tensor:
        """Log-mel energies relative to the utterance's mean, the mean of two windows per frame: (frames, 40)."""
        mel = self._pairs(self._log_mel(wave))
        return mel - mel[self._loud(wave)].mean()

    def mfcc(self, wave: Tensor) -> Tensor:
        """Cepstra without the utterance's mean, and their slopes: (frames, 26)."""
        cepstra = self._log_mel(wave) @ self._dct  # (windows, cepstra)
        slopes = self._slopes(cepstra.T).T
        both = self._pairs(torch.cat([cepstra, slopes], dim=1))
        both[:, :CEPSTRA] -= both[self._loud(wave), :CEPSTRA].mean(dim=0)
        both[:, 0] *= 0.5  # the level has the largest variance
        both[:, CEPSTRA:] *= 2.0
        return both

    def f0(self, wave: Tensor) -> Tensor:
        """Classes of the fundamental frequency, (frames,): 0 without a voice, then 24 logarithmic bins."""
        frames = self._unfold(wave, F0_WINDOW)
        frames = frames - frames.mean(dim=1, keepdim=True)
        power = torch.fft.rfft(frames * self._window, 2 * F0_WINDOW).abs() ** 2
        correlation = torch.fft.irfft(power)[:, :F0_WINDOW]
        correlation = correlation / (correlation[:, :1] + 1e-8) / self._bias.clamp(min=1e-3)
        first, last = int(SAMPLE_RATE / F0_RANGE[1]), int(SAMPLE_RATE / F0_RANGE[0])
        inside = correlation[:, first:last]
        best = inside.max(dim=1).values
        # the shortest lag whose peak is nearly the highest: twice the lag would be an octave error
        peak = (inside >= correlation[:, first - 1 : last - 1]) & (inside >= correlation[:, first + 1 : last + 1])
        good = peak & (inside >= 0.9 * best.unsqueeze(1))
        lag = first + torch.where(good.any(dim=1), good.float().argmax(dim=1), inside.argmax(dim=1))
        octaves = torch.log2(SAMPLE_RATE / lag / F0_RANGE[0]) / math.log2(F0_RANGE[1] / F0_RANGE[0])
        bins = 1 + (octaves * F0_BINS).clamp(0, F0_BINS - 1).long()
        return torch.where((best > VOICED) & self._loud(wave), bins, torch.zeros_like(bins))

    def energy(self, wave: Tensor) -> Tensor:
        """Classes of the energy in steps of 6 dB below the utterance's loudest frame, (frames,)."""
        level = self._level(wave)
        classes = ENERGY_CLASSES + torch.floor((level - level.max()) / ENERGY_STEP)
        return classes.clamp(0, ENERGY_CLASSES - 1).long()

    def _log_mel(self, wave: Tensor) -> Tensor:
        """Two windows per frame, centred 5 ms before and after its centre: (2 * frames, 40)."""
        frames, before = frames_of(len(wave)), WINDOW // 2 - (CENTRE - HOP // 2)
        needed = (2 * frames - 1) * HOP + WINDOW
        padded = F.pad(wave, (before, max(0, needed - before - len(wave))))[:needed]
        return torch.log(self._mel(padded).T + 1e-5)

    def _pairs(self, windows: Tensor) -> Tensor:
        return windows.view(-1, 2, windows.shape[1]).mean(dim=1)

    def _unfold(self, wave: Tensor, size: int) -> Tensor:
        """Return the samples around each frame's centre, (frames, size)."""
        start = CENTRE - size // 2
        return wave[start:].unfold(0, size, STRIDE)[: frames_of(len(wave))]

    def _level(self, wave: Tensor) -> Tensor:
        return 10 * torch.log10((self._unfold(wave, F0_WINDOW) ** 2).mean(dim=1) + 1e-9)

    def _loud(self, wave: Tensor) -> Tensor:
        level = self._level(wave)
        return level > level.max() - 40
