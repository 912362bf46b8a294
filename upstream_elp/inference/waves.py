"""Convert samples that the caller already has, as an array, a tensor or a list of numbers, to a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from upstream_elp.audio.levels import LEVELS
from upstream_elp.base.errors import AudioError

_FULL_SCALE = {"int16": 2**15, "int32": 2**31}
_WANTED = "pass floating-point samples in [-1, 1]"


def as_wave(item: Any, name: str) -> Tensor:
    """Return a float32 copy of samples, in the same shape.

    Byte order, strides, precision and device do not matter. Integers are refused, since it is unknown whether 1 is
    their largest or their smallest value.

    Args:
        item: NumPy array, tensor, or (nested) list of numbers.
        name: name of the wave in errors.

    Raises:
        ElpError: the samples are not floating-point numbers.
    """
    samples = _of_tensor(item, name) if isinstance(item, Tensor) else _of_array(item, name)
    LEVELS.note(samples, name)
    return torch.from_numpy(samples)


def _of_tensor(item: Tensor, name: str) -> np.ndarray:
    if item.layout != torch.strided or item.is_meta or item.is_quantized:
        raise AudioError(f"{name} is a tensor without plain samples; {_WANTED} as a dense tensor", name)
    kind = str(item.dtype).removeprefix("torch.")
    if not item.is_floating_point():
        raise _no_floats(kind, name)
    return item.detach().cpu().resolve_neg().to(torch.float32, copy=True).contiguous().numpy()


def _of_array(item: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(item)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of different lengths, foreign arrays
        raise AudioError(
            f"{name} is not an array of numbers ({' '.join(str(error).split())}); {_WANTED}", name
        ) from error
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise AudioError(f"{name} is an array with masked samples; fill or remove them", name)
    if array.dtype.kind != "f":
        raise _no_floats(array.dtype.name if array.dtype.kind in "iub" else _described(item, array), name)
    with np.errstate(over="ignore"):  # samples that become infinite are refused later
        return np.array(array, dtype=np.float32, order="C")


def _described(item: Any, array: np.ndarray) -> str:
    kind = type(item).__name__
    return f"{kind} of {array.dtype.name}" if isinstance(item, np.ndarray) else kind


def _no_floats(kind: str, name: str) -> AudioError:
    largest = _FULL_SCALE.get(kind)
    scale = f": divide them by {largest}" if largest else ""
    return AudioError(f"{name} does not contain floating-point numbers ({kind}); {_WANTED}{scale}", name)
