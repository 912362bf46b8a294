"""The SoX effects that S3PRL's tasks use through `torchaudio.sox_effects`, without SoX.

SUPERB's speaker verification applies `channels 1, rate 16000, gain -3.0, silence 1 0.1 0.1% -1 0.1 0.1%` to every
utterance: this trims leading silence and cuts every pause of a tenth of a second or more. The input of a model, and
which utterances are dropped as too short, depend on the last bit of that chain, which torchaudio no longer ships.

SoX works on 32-bit integers, and so does everything here: the result equals that of SoX (14.4.2, float output) bit for
bit, for integer and float files of any depth, mono or not, with one exception. If the sample rate really changes,
soxr's filter differs from SoX's: the length before trimming is equal, but samples differ by up to 1e-4 in speech and
1e-3 in broadband noise, and a pause may be cut one sample earlier or later. VoxCeleb1 is 16 kHz mono, so `rate` does
nothing there. For compressed formats (mp3, ogg), the decoders differ as well.

The rules come from a written description of SoX's behaviour and were checked against the program's output; none of
SoX's code was copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from upstream_elp.audio.reading import PathLike
from upstream_elp.audio.sox_effects import EFFECTS, unsupported
from upstream_elp.audio.sox_samples import Audio, int32_to_float32, read_int32, tensor_to_int32
from upstream_elp.base.errors import ElpError

SUPERB_SV_EFFECTS = (
    ("channels", "1"),
    ("rate", "16000"),
    ("gain", "-3.0"),
    ("silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"),
)
"""The chain in S3PRL's `downstream/sv_voxceleb1/dataset.py`:21."""

Effects = Sequence[Sequence[str]]


def superb_sv_effects(wav: torch.Tensor, rate: int) -> torch.Tensor:
    """Apply SUPERB's speaker verification chain.

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
    """Replace `torchaudio.sox_effects.apply_effects_file`.

    Args:
        path: audio file.
        effects: effect names with their arguments as strings; `EFFECTS` lists the supported ones.
        normalize: must be True; samples are float32 in [-1, 1].
        channels_first: shape of the result, `(channels, samples)` or `(samples, channels)`.
        format: must be None; the format is recognised from the file.

    Returns:
        The samples and their rate in Hz.

    Raises:
        ElpError: the file cannot be read, or an effect or option is not supported.
    """
    if not normalize or format is not None:
        raise ElpError("apply_effects_file only supports normalize=True and format=None; remove the option")
    wav, rate = run_chain(*read_int32(path), effects)
    out = torch.from_numpy(int32_to_float32(wav))
    return (out if channels_first else out.t().contiguous()), rate


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: Effects, channels_first: bool = True
) -> tuple[torch.Tensor, int]:
    """Replace `torchaudio.sox_effects.apply_effects_tensor`, for float32 samples.

    Args:
        tensor: shape `(channels, samples)`, or `(samples, channels)` without `channels_first`.
        sample_rate: rate in Hz.
        effects: as in `apply_effects_file`.
        channels_first: whether channels are the first axis of input and output.

    Returns:
        The samples, float32, and their rate in Hz.

    Raises:
        ElpError: the shape is wrong, or an effect is not supported.
    """
    if tensor.dim() != 2:
        raise ElpError(f"apply_effects_tensor needs a tensor with 2 axes, but its shape is {tuple(tensor.shape)}")
    wav = tensor if channels_first else tensor.t()
    out, rate = run_chain(tensor_to_int32(wav), sample_rate, effects)
    result = torch.from_numpy(int32_to_float32(out))
    return (result if channels_first else result.t().contiguous()), rate


def run_chain(wav: np.ndarray, rate: int, effects: Effects) -> Audio:
    """Run effects one after the other on int32 samples of shape `(channels, samples)`."""
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise ElpError(f"SoX effect {name!r} is not supported; the supported ones are {', '.join(sorted(EFFECTS))}")
        try:
            wav, rate = EFFECTS[name](wav, rate, *arguments)
        except (TypeError, ValueError) as error:
            if isinstance(error, ElpError):
                raise
            raise unsupported(name, arguments) from error
    return wav, rate
