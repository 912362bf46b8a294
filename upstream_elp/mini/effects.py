"""Effects between the speech synthesis and the file: trimming, tilt, room, microphone, noise and level."""

from dataclasses import dataclass

import numpy as np
import soxr

from upstream_elp.audio.front import SAMPLE_RATE

_NOISES = ("white", "pink", "hum", "babble")
_PHONE = (300.0, 3400.0)  # Hz
_EQ_BANDS = np.array([60.0, 250.0, 700.0, 1800.0, 4000.0, 8000.0])  # Hz


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How difficult the recordings are; the defaults were chosen by measurements."""

    snr: tuple[float, float] = (10.0, 30.0)  # dB
    reverb: float = 0.3  # probability that a channel has a room
    eq: float = 2.5  # dB, largest gain or cut of a microphone band
    phone: float = 0.0  # probability that a channel is a telephone


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A recording situation; the utterances of a VoxCeleb `video` share one."""

    gains: np.ndarray  # (bands,) dB
    room: np.ndarray | None  # (samples,) impulse response
    noise: str
    snr: float  # dB
    phone: bool


def draw_channel(conditions: Conditions, *, rng: np.random.Generator) -> Channel:
    """Draw a microphone, possibly a room, a kind of noise and its level."""
    gains = rng.uniform(-conditions.eq, conditions.eq, len(_EQ_BANDS))
    has_room = rng.random() < conditions.reverb
    room = _draw_room(rng)
    noise = _NOISES[rng.integers(len(_NOISES))]
    snr, phone = rng.uniform(*conditions.snr), rng.random() < conditions.phone
    return Channel(gains=gains, room=room if has_room else None, noise=noise, snr=snr, phone=phone)


def record(
    speech: np.ndarray,
    rate: float,
    *,
    channel: Channel,
    rng: np.random.Generator,
    tilt: float = 0.0,
    max_samples: int | None = None,
) -> np.ndarray:
    """Turn synthesised speech into a recording.

    Args:
        speech: (samples,) int16 at `rate` Hz.
        rate: sampling rate of `speech` in Hz; a higher one than its own makes a shorter vocal tract.
        channel: the recording situation.
        rng: source of the margins, the level and the noise of this utterance.
        tilt: first-order spectral tilt; positive is brighter, negative is duller.
        max_samples: largest number of samples at 16 kHz, without the margins.

    Returns:
        (samples,) int16 at 16 kHz, never clipped.
    """
    clean = _trim(soxr.resample(speech.astype(np.float64) / 32768.0, rate, SAMPLE_RATE))[:max_samples]
    margins = rng.integers(int(0.05 * SAMPLE_RATE), int(0.2 * SAMPLE_RATE), size=2)
    clean = np.pad(clean, tuple(margins))
    heard = _colour(clean, channel, tilt)
    loudness = np.sqrt(np.mean(heard**2)) + 1e-9
    snr = channel.snr + rng.uniform(-2.0, 2.0)
    noisy = heard / loudness + _noise(channel.noise, len(heard), rng) * 10 ** (-snr / 20)
    noisy *= 10 ** (rng.uniform(-29.0, -21.0) / 20)  # level in dB below full scale
    noisy *= min(1.0, 0.9 / (np.abs(noisy).max() + 1e-9))
    return np.round(noisy * 32767).astype(np.int16)


def _trim(wave: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Cut everything before and after the part that exceeds `threshold` times the peak."""
    loud = np.flatnonzero(np.abs(wave) > threshold * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave


def _colour(wave: np.ndarray, channel: Channel, tilt: float) -> np.ndarray:
    """Apply tilt, microphone, telephone and room in one pass over the spectrum; the room's tail is cut at the end."""
    tail = 256 if channel.room is None else len(channel.room)
    size = 1 << (len(wave) + tail - 1).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gains = np.interp(np.log(frequencies + 20.0), np.log(_EQ_BANDS + 20.0), channel.gains)
    response = (10 ** (gains / 20)).astype(np.complex128)
    if channel.phone:
        response *= (frequencies > _PHONE[0]) & (frequencies < _PHONE[1])
    if tilt:
        response *= 1 - tilt * np.exp(-2j * np.pi * frequencies / SAMPLE_RATE)
    if channel.room is not None:
        response *= np.fft.rfft(channel.room, size)
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[: len(wave)]


def _draw_room(rng: np.random.Generator) -> np.ndarray:
    """Draw a room: a direct path and a tail of noise that decays exponentially."""
    seconds = rng.uniform(0.1, 0.35)  # time to fall by 60 dB
    samples = np.arange(int(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(len(samples)) * 10 ** (-3 * samples / len(samples))
    tail *= 10 ** (-rng.uniform(3.0, 12.0) / 20) / np.sqrt(np.sum(tail**2))  # 3-12 dB below the direct path
    tail[0] = 1.0
    return tail


def _noise(kind: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return one kind of noise with unit power, (samples,)."""
    size = 1 << (samples - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    if kind == "pink":
        spectrum /= np.sqrt(np.maximum(frequencies, 40.0))
    elif kind in ("babble", "hum"):
        spectrum /= 1.0 + (frequencies / 500.0) ** 2  # speech falls by about 12 dB per octave above 500 Hz
    wave = np.fft.irfft(spectrum, size)[:samples]
    time = np.arange(samples) / SAMPLE_RATE
    if kind == "babble":  # syllables come at about 4 Hz
        wave *= 1.0 + 0.6 * np.sin(2 * np.pi * (rng.uniform(3, 5) * time + rng.random()))
    elif kind == "hum":
        base, phase = rng.choice([50.0, 60.0]), rng.random()
        tones = sum(np.sin(2 * np.pi * (base * k * time + phase * k)) / k for k in (1, 2, 3, 5))
        wave = wave / (wave.std() + 1e-9) + tones
    return wave / (np.sqrt(np.mean(wave**2)) + 1e-9)
