"""What the model hears instead of the clean speech: microphones, rooms, overlapping talkers and noise, as in WavLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from speech import SAMPLE_RATE
from torch import Tensor

BANDS = np.array([60.0, 250.0, 700.0, 1800.0, 4000.0, 8000.0])  # Hz


@dataclass(frozen=True, kw_only=True)
class Strength:
    """Probabilities and ranges of the effects."""

    noise: float = 0.75
    snr: tuple[float, float] = (6.0, 32.0)  # dB
    equaliser: float = 5.0  # dB, largest gain of a band
    tilt: float = 0.5
    room: float = 0.3
    overlap: float = (
        0.15  # another utterance of the batch in at most half of this one (arXiv 2110.13900, section III-B)
    )
    overlap_level: tuple[float, float] = (-12.0, 0.0)  # dB


class Augment:
    """Draws effects from pools of noises and rooms.

    Args:
        samples: length of the waves.
        seed: seed of the pools.
        strength: how strong the effects are.
    """

    NOISES, ROOMS, NOISE_SECONDS = 24, 60, 20

    def __init__(self, samples: int, *, seed: int, strength: Strength | None = None) -> None:
        rng = np.random.default_rng((seed, 5))
        self.strength = strength or Strength()
        self.size = 1 << (samples + SAMPLE_RATE // 3).bit_length()
        hertz = np.fft.rfftfreq(self.size, 1 / SAMPLE_RATE)
        points = np.log(BANDS + 20)
        self._bands = np.stack([np.interp(np.log(hertz + 20), points, row) for row in np.eye(len(BANDS))]).astype(
            np.float32
        )
        self._delay = np.exp(-2j * np.pi * hertz / SAMPLE_RATE).astype(np.complex64)
        length = max(self.NOISE_SECONDS * SAMPLE_RATE, 2 * samples)
        self._noises = np.stack([_noise(length, rng) for _ in range(self.NOISES)])
        self._rooms = [np.fft.rfft(_room(rng), self.size).astype(np.complex64) for _ in range(self.ROOMS)]

    def __call__(self, waves: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return what is heard, (batch, samples), from clean waves whose rows 2 i and 2 i + 1 belong together."""
        batch, samples = waves.shape
        spectra = torch.fft.rfft(torch.from_numpy(waves), self.size)
        responses = torch.from_numpy(np.stack([self._response(rng) for _ in range(batch)]))
        heard = torch.fft.irfft(spectra * responses, self.size)[:, :samples]
        heard = (heard / (heard.square().mean(dim=1, keepdim=True).sqrt() + 1e-6)).numpy()
        mixed = heard.copy()
        for row in range(batch):
            if rng.random() < self.strength.overlap:
                _overlap(mixed[row], heard, row, rng, self.strength.overlap_level)
            if rng.random() < self.strength.noise:
                start = rng.integers(self._noises.shape[1] - samples)
                noise = self._noises[rng.integers(self.NOISES), start : start + samples]
                mixed[row] += noise * np.float32(10 ** (-rng.uniform(*self.strength.snr) / 20))
        return torch.from_numpy(mixed)

    def _response(self, rng: np.random.Generator) -> np.ndarray:
        """Return the spectrum of a microphone in a room."""
        decibels = rng.uniform(-self.strength.equaliser, self.strength.equaliser, len(BANDS)).astype(np.float32)
        response = np.exp(decibels * np.float32(np.log(10) / 20) @ self._bands).astype(np.complex64)
        if rng.random() < self.strength.tilt:
            response = response * (1 - np.float32(rng.uniform(-0.6, 0.6)) * self._delay)
        if rng.random() < self.strength.room:
            response = response * self._rooms[rng.integers(self.ROOMS)]
        return response


def _overlap(
    wave: np.ndarray, others: np.ndarray, row: int, rng: np.random.Generator, level: tuple[float, float]
) -> None:
    """Add a part of another utterance to at most half of a wave, in place; never one of the same pair."""
    samples = len(wave)
    other = rng.integers(len(others))
    length = rng.integers(samples // 8, samples // 2)
    here, there = rng.integers(samples - length, size=2)
    gain = np.float32(10 ** (rng.uniform(*level) / 20))
    if other // 2 != row // 2:
        wave[here : here + length] += others[other, there : there + length] * gain


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a noise of unit power: a slope between white and brown; some pulsate like syllables, some hum."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    wave = np.fft.irfft(spectrum / np.maximum(hertz, 40.0) ** rng.uniform(0.0, 1.2), samples)
    time = np.arange(samples) / SAMPLE_RATE
    if rng.random() < 0.35:
        wave *= 1 + 0.8 * np.sin(2 * np.pi * (rng.uniform(2, 6) * time + rng.random()))
    if rng.random() < 0.2:
        base = rng.uniform(45, 130)
        wave = wave / wave.std() + sum(np.sin(2 * np.pi * base * k * time) / k for k in range(1, 6))
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Draw an impulse response: the direct sound and a tail that falls by 60 dB in 0.1 to 0.35 s."""
    samples = int(rng.uniform(0.1, 0.35) * SAMPLE_RATE)
    tail = rng.standard_normal(samples) * 10 ** (-3 * np.arange(samples) / samples)
    tail *= 10 ** (-rng.uniform(3, 12) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail
