"""Samples that a caller has already, in whatever layout: an array, a tensor or a list of numbers becomes one tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from upstream_elp.audio.levels import LEVELS
from upstream_elp.base.errors import AudioError

_FULL_SCALE = {"int16": 2**15, "int32": 2**31}
_WANTED = "give floating-point samples in [-1, 1]"


def as_wave(item: Any, name: str) -> Tensor:
    """Float32 samples in memory of their own, of the shape of what was given.

    Byte order, strides, precision and device make no difference. Integers are refused: whether 1 stands for the largest
    value or for the smallest is not known of them.

    Args:
        item: NumPy array, tensor, or (nested) list of numbers.
        name: what to call it in errors.

    Raises:
        ElpError: no floating-point numbers.
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
    except (ValueError, TypeError, RuntimeError) as error:  # lists of lists of several lengths, foreign arrays
        raise AudioError(
            f"{name} is not an array of numbers ({' '.join(str(error).split())}); {_WANTED}", name
        ) from error
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise AudioError(f"{name} is an array of which some samples are masked; fill or remove them", name)
    if array.dtype.kind != "f":
        raise _no_floats(array.dtype.name if array.dtype.kind in "iub" else _described(item, array), name)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return np.array(array, dtype=np.float32, order="C")


def _described(item: Any, array: np.ndarray) -> str:
    kind = type(item).__name__
    return f"{kind} of {array.dtype.name}" if isinstance(item, np.ndarray) else kind


def _no_floats(kind: str, name: str) -> AudioError:
    largest = _FULL_SCALE.get(kind)
    scale = f": divide them by {largest}" if largest else ""
    return AudioError(f"{name} holds no floating-point numbers ({kind}); {_WANTED}{scale}", name)
