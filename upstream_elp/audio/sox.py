"""The SoX effects that S3PRL's tasks ask of `torchaudio.sox_effects`, without SoX.

SUPERB's speaker verification passes every utterance through `channels 1, rate 16000, gain -3.0, silence 1 0.1 0.1% -1
0.1 0.1%`: it trims leading silence and cuts every pause of a tenth of a second or more. What a model hears, and which
utterances are dropped as too short, depends on the last bit of that chain, and torchaudio no longer ships it.

SoX works on 32-bit integers, so everything here does: the result equals SoX's bit for bit (14.4.2, float output)
for integer and float files of any depth, mono or not, with one exception. Where the sample rate really changes, soxr's
filter is not SoX's: the length before trimming is equal, samples differ by up to 1e-4 in speech and 1e-3 in broadband
noise, and a pause may be cut one sample earlier or later. VoxCeleb1 is 16 kHz mono, where `rate` does nothing. For
compressed formats (mp3, ogg) the decoders differ besides.

The rules come from a written description of SoX's behaviour and were checked against the program's output; no code of
SoX was copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import soxr
import torch

from upstream_elp.audio.reading import PathLike, audio_subtype, read_samples
from upstream_elp.base.errors import AudioError, ElpError

FULL = 2**31
"""One more than the largest sample of SoX's 32-bit integers."""
SUPERB_SV_EFFECTS = (
    ("channels", "1"),
    ("rate", "16000"),
    ("gain", "-3.0"),
    ("silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"),
)
"""The chain of S3PRL's `downstream/sv_voxceleb1/dataset.py`:21."""

Effects = Sequence[Sequence[str]]
Audio = tuple[np.ndarray, int]
"""Integer samples, int32 of shape `(channels, samples)`, and their rate in Hz."""


def superb_sv_effects(wav: torch.Tensor, rate: int) -> torch.Tensor:
    """Applies SUPERB's speaker verification chain.

    Args:
        wav: float samples in [-1, 1], or int16 or int32. Shape: `(samples,)` or `(channels, samples)`.
        rate: sample rate in Hz.

    Returns:
        float32 at 16 kHz, possibly empty. Shape: `(1, kept samples)`.
    """
    if wav.dim() == 1:
        wav = wav.unsqueeze(0)  # (samples,) -> (1, samples)
    out, _ = run_chain(tensor_to_int32(wav), rate, SUPERB_SV_EFFECTS)
    return torch.from_numpy(int32_to_float32(out))


def apply_effects_file(
    path: PathLike,
    effects: Effects,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
) -> tuple[torch.Tensor, int]:
    """Stands in for `torchaudio.sox_effects.apply_effects_file`.

    Args:
        path: audio file.
        effects: effect names with their arguments as strings; see `EFFECTS` for those that exist here.
        normalize: only True, samples come as float32 in [-1, 1].
        channels_first: shape of the result, `(channels, samples)` or `(samples, channels)`.
        format: only None, the format is recognised from the file.

    Returns:
        The samples and their rate in Hz.

    Raises:
        ElpError: the file cannot be read, or an effect or option is not supported.
    """
    if not normalize or format is not None:
        raise ElpError("apply_effects_file supports only normalize=True and format=None; drop the option")
    wav, rate = run_chain(*read_int32(path), effects)
    out = torch.from_numpy(int32_to_float32(wav))
    return (out if channels_first else out.t().contiguous()), rate


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: Effects, channels_first: bool = True
) -> tuple[torch.Tensor, int]:
    """Stands in for `torchaudio.sox_effects.apply_effects_tensor`, for float32 samples.

    Args:
        tensor: shape `(channels, samples)`, or `(samples, channels)` without `channels_first`.
        sample_rate: rate in Hz.
        effects: as in `apply_effects_file`.
        channels_first: whether channels are the first axis, of the input and of the output.

    Returns:
        The samples, float32, and their rate in Hz.

    Raises:
        ElpError: another shape, or an effect that is not supported.
    """
    if tensor.dim() != 2:
        raise ElpError(f"apply_effects_tensor needs a tensor of 2 axes, not of shape {tuple(tensor.shape)}")
    wav = tensor if channels_first else tensor.t()
    out, rate = run_chain(tensor_to_int32(wav), sample_rate, effects)
    result = torch.from_numpy(int32_to_float32(out))
    return (result if channels_first else result.t().contiguous()), rate


def run_chain(wav: np.ndarray, rate: int, effects: Effects) -> Audio:
    """Runs effects one after the other on int32 samples of shape `(channels, samples)`."""
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise ElpError(f"SoX effect {name!r} is not supported; supported are {', '.join(sorted(EFFECTS))}")
        try:
            wav, rate = EFFECTS[name](wav, rate, *arguments)
        except (TypeError, ValueError) as error:
            if isinstance(error, ElpError):
                raise
            raise _unsupported(name, arguments) from error
    return wav, rate


def read_int32(path: PathLike) -> Audio:
    """Decodes a file to the integers that SoX works on.

    Float files are truncated towards zero, files of doubles rounded: that is what SoX does.
    """
    subtype = audio_subtype(path)
    if subtype in _INTEGER_SUBTYPES:
        wav, rate = read_samples(path, dtype="int32")
    else:
        floats, rate = read_samples(path, dtype="float64")
        if not np.isfinite(floats).all():
            raise AudioError(f"{path} holds samples that are NaN or infinite; replace the file", path)
        scaled = floats * FULL
        wav = _round(scaled) if subtype == "DOUBLE" else _clip(scaled)
    return np.ascontiguousarray(wav.T), rate  # (samples, channels) -> (channels, samples)


def tensor_to_int32(wav: torch.Tensor) -> np.ndarray:
    """float in [-1, 1], int16 or int32 -> int32 of the same shape."""
    floats = wav.is_floating_point()  # of any precision, bfloat16 too, which NumPy does not know
    samples = (wav.double() if floats else wav).detach().cpu().numpy()
    if samples.dtype == np.int32:
        return samples
    if samples.dtype == np.int16:
        return samples.astype(np.int32) << 16
    if not floats:
        raise ElpError(f"SoX effects take float, int16 or int32 samples, not {wav.dtype}; convert the tensor")
    if not np.isfinite(samples).all():
        raise ElpError("SoX effects got samples that are NaN or infinite; check the audio")
    return _clip(samples * FULL)


def int32_to_float32(wav: np.ndarray) -> np.ndarray:
    """int32 -> float32 in [-1, 1], at a fixed resolution of 24 bits as in SoX's float output."""
    return (((wav.astype(np.int64) + 64) & ~127) / FULL).astype(np.float32)


# ---------------------------------------------------------------------------------------------------- effects


def channels(wav: np.ndarray, rate: int, count: str) -> Audio:
    """Mixes down to one channel (mean), or copies one channel to several."""
    have, want = wav.shape[0], int(count)
    if have == want:
        return wav, rate
    if want == 1:
        total = np.zeros(wav.shape[1])
        for row in wav:  # one product per channel, then the sum: the order decides the last bit
            total += row * (1.0 / have)
        return _round(total)[None], rate
    if have == 1:
        return np.repeat(wav, want, axis=0), rate
    raise ElpError(f"SoX effect channels from {have} to {want} is not supported; supported are 1 and from 1 to several")


def resample(wav: np.ndarray, rate: int, target: str) -> Audio:
    """Changes the rate. Not SoX's own filter: see the module's docstring."""
    new_rate = int(target)
    if new_rate == rate:
        return wav, rate
    out = [_round(soxr.resample(row.astype(np.float64), rate, new_rate, quality="HQ")) for row in wav]
    return np.stack(out), new_rate


def gain(wav: np.ndarray, rate: int, decibel: str) -> Audio:
    """Multiplies by `10^(dB/20)`, rounds half away from zero, clips."""
    return _round(wav * 10.0 ** (float(decibel) / 20)), rate


def norm(wav: np.ndarray, rate: int, decibel: str = "0") -> Audio:
    """Brings the largest peak to full scale, or to `decibel` below it."""
    peak = max(int(wav.max(initial=0)) / (FULL - 1), int(wav.min(initial=0)) / -FULL)
    if peak == 0:
        return wav, rate
    return _round(wav * (10.0 ** (float(decibel) / 20) / peak)), rate


def volume(wav: np.ndarray, rate: int, factor: str) -> Audio:
    """Multiplies by a factor; unlike `gain`, truncates."""
    return _clip(wav * float(factor)), rate


def reverse(wav: np.ndarray, rate: int) -> Audio:
    """Plays backwards."""
    return np.ascontiguousarray(wav[:, ::-1]), rate


def pad(wav: np.ndarray, rate: int, before: str, after: str = "0") -> Audio:
    """Adds silence, in seconds."""
    samples = [int(float(seconds) * rate + 0.5) for seconds in (before, after)]
    return np.pad(wav, ((0, 0), samples)), rate


def silence(wav: np.ndarray, rate: int, *arguments: str) -> Audio:
    """Trims leading silence and cuts pauses; supports `1 DURATION THRESHOLD% -1 DURATION THRESHOLD%`, mono.

    With the level of a sample being the RMS of the last 20 ms up to it: sound begins with the first of `duration`
    samples in a row above the threshold. From there everything is kept until `duration` samples in a row are not above
    it: these are dropped, the RMS window is emptied, and sound has to begin anew. Shorter pauses stay. What has not
    become sound when the audio ends is dropped; an unfinished pause there stays.
    """
    start_count, start_time, start_level, stop_count, stop_time, stop_level = arguments
    supported = (start_count, stop_count) == ("1", "-1") and all("." in t for t in (start_time, stop_time))
    if not supported or not all(level.endswith("%") for level in (start_level, stop_level)):
        raise _unsupported("silence", arguments)
    if wav.shape[0] != 1:
        raise ElpError(f"SoX effect silence supports 1 channel, not {wav.shape[0]}; put 'channels 1' before it")
    kept = _kept_spans(
        wav[0].astype(np.float64),
        window=int(rate / 50),
        start=(int(float(start_time) * rate + 0.5), _level(start_level)),
        stop=(int(float(stop_time) * rate + 0.5), _level(stop_level)),
    )
    return np.concatenate([wav[:, :0], *(wav[:, begin:end] for begin, end in kept)], axis=1), rate


EFFECTS: dict[str, Callable[..., Audio]] = {
    "channels": channels,
    "rate": resample,
    "gain": gain,
    "norm": norm,
    "vol": volume,
    "reverse": reverse,
    "pad": pad,
    "silence": silence,
}
"""Effect name -> function of the samples, the rate and the arguments."""

_INTEGER_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"}
_FIRST_HORIZON = 4.0
"""Seconds looked at first when searching the next cut; doubled while there is none, so that cost stays linear."""


def _kept_spans(
    wav: np.ndarray, *, window: int, start: tuple[int, float], stop: tuple[int, float]
) -> list[tuple[int, int]]:
    """Half-open spans of samples that `silence` keeps, in order."""
    spans, position, total = [], 0, len(wav)
    first = int(_FIRST_HORIZON * 50 * window)
    while position < total:
        horizon = first
        while True:
            chunk = wav[position : position + horizon]
            at_end = position + horizon >= total
            begin, end, cut = _first_span(_rms(chunk, window), start, stop)
            if cut or at_end:
                break
            horizon *= 2
        if begin < len(chunk):
            spans.append((position + begin, position + end))
        position += (end + stop[0]) if cut else len(chunk)
    return spans


def _first_span(rms: np.ndarray, start: tuple[int, float], stop: tuple[int, float]) -> tuple[int, int, bool]:
    """Begin and end of the first kept span, and whether a finished pause ends it."""
    begin = _first_run(rms > start[1], start[0])
    if begin == len(rms):
        return begin, begin, False
    past = begin + start[0]
    end = past + _first_run(~(rms[past:] > stop[1]), stop[0])
    return begin, end, end < len(rms)


def _first_run(flags: np.ndarray, length: int) -> int:
    """Index of the first of `length` true values in a row, or the number of values if there are none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).view(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    long = np.flatnonzero(ends - begins >= length)
    return int(begins[long[0]]) if long.size else len(flags)


def _rms(wav: np.ndarray, window: int) -> np.ndarray:
    """Running RMS over the last `window` samples, zeros before the first, rounded down.

    The sum of squares is updated as SoX does, the oldest subtracted and the newest added in floating point: NumPy's
    cumulative sum is sequential, so on the interleaved differences it makes the same roundings. These can leave a sum
    slightly below zero in silence, whose root is NaN and compares as not above.
    """
    squares = wav * wav
    changes = np.zeros(2 * len(wav))
    changes[1::2] = squares
    changes[2 * window :: 2] = -squares[: max(len(wav) - window, 0)]
    with np.errstate(invalid="ignore"):
        return np.floor(np.sqrt(np.cumsum(changes)[1::2] / window))


def _level(percent: str) -> float:
    return float(percent[:-1]) / 100 * (FULL - 1)


def _clip(values: np.ndarray) -> np.ndarray:
    """float64 -> int32, towards zero."""
    return np.clip(values, -FULL, FULL - 1).astype(np.int32)


def _round(values: np.ndarray) -> np.ndarray:
    """float64 -> int32, halves away from zero."""
    return _clip(values + np.copysign(0.5, values))


def _unsupported(name: str, arguments: Sequence[str]) -> ElpError:
    known = "silence 1 SECONDS.0 PERCENT% -1 SECONDS.0 PERCENT%" if name == "silence" else f"{name} with plain numbers"
    return ElpError(f"SoX effect '{name} {' '.join(map(str, arguments))}' is not supported; supported is '{known}'")
