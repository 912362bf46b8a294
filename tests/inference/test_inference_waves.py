"""Samples given to a trained model: any layout of the same numbers is the same wave, or is refused in one sentence."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from downstream_heads.common.predictor import Predictor
from upstream_elp.audio.levels import LEVELS, LevelWarning
from upstream_elp.base.errors import ElpError
from upstream_elp.inference.model import TrainedModel
from upstream_elp.training.precision import Precision


class Echo(Predictor):
    """A predictor that returns its input."""

    task = "echo"

    @classmethod
    def head_options(cls, modelrc):
        return {}

    def build(self, labels):
        pass

    def answers(self, features, names):
        return list(features)

    def compare(self, pairs):
        return [float((first - second).abs().sum()) for first, second in pairs]


class Plain(nn.Module):
    def forward(self, wavs, *states):
        return states[0] if states else list(wavs)


@pytest.fixture(scope="module")
def model():
    predictor = Echo(upstream_dim=1, upstream_rate=1, modelrc={}, audio={}, labels=None)
    return TrainedModel(Plain(), Plain(), predictor, precision=Precision({"precision": "fp32"}, torch.device("cpu")))


def reversed_twice(wave):
    return np.ascontiguousarray(wave[::-1])[::-1]


def of_every_other(wave):
    wide = np.zeros(2 * len(wave), dtype=np.float32)
    wide[::2] = wave
    return wide[::2]


def of_a_column(wave, order):
    return np.asarray(np.stack([wave, -wave], axis=1), order=order)[:, 0]


def read_only(wave):
    wave = wave.copy()
    wave.flags.writeable = False
    return wave


def unaligned(wave):
    return np.frombuffer(b"x" + wave.tobytes(), dtype=np.uint8)[1:].view(np.float32)


def negative(wave):
    """A tensor with the negative bit."""
    return torch.complex(torch.zeros(len(wave)), torch.from_numpy(-wave)).conj().imag


#: layouts of the same 16-bit values
SAME = {
    "reversed": reversed_twice,
    "every other": of_every_other,
    "column": lambda wave: of_a_column(wave, "C"),
    "Fortran order": lambda wave: of_a_column(wave, "F"),
    "big-endian": lambda wave: wave.astype(">f4"),
    "big-endian float64": lambda wave: wave.astype(">f8"),
    "float64": lambda wave: wave.astype(np.float64),
    "long double": lambda wave: wave.astype(np.longdouble),
    "read-only": read_only,
    "unaligned": unaligned,
    "memory map": lambda wave: wave.view(np.memmap),
    "list of numbers": lambda wave: wave.tolist(),
    "list of scalars": lambda wave: list(wave),
    "tuple": lambda wave: tuple(wave.tolist()),
    "tensor": lambda wave: torch.from_numpy(wave.copy()),
    "tensor of float64": lambda wave: torch.from_numpy(wave.astype(np.float64)),
    "tensor with a gradient": lambda wave: torch.from_numpy(wave.copy()).requires_grad_(),
    "parameter": lambda wave: nn.Parameter(torch.from_numpy(wave.copy())),
    "result with a gradient": lambda wave: torch.from_numpy(wave.copy()).requires_grad_() * 1,
    "strided tensor": lambda wave: torch.from_numpy(of_every_other(wave).base)[::2],
    "negative tensor": negative,
}
#: what loses precision: the same numbers to that precision
NEARLY = {
    "float16": lambda wave: wave.astype(np.float16),
    "tensor of float16": lambda wave: torch.from_numpy(wave).half(),
    "tensor of bfloat16": lambda wave: torch.from_numpy(wave).bfloat16(),
}


@pytest.mark.parametrize("layout", [*SAME, *NEARLY])
@settings(max_examples=5, deadline=None)
@given(samples=st.integers(400, 1000), seed=st.integers(0, 9))
def test_any_layout_is_the_plain_array(model, layout, samples, seed):
    wave = (np.random.default_rng(seed).integers(-32768, 32768, samples) / 32768).astype(np.float32)
    kept = wave.copy()
    given = {**SAME, **NEARLY}[layout](wave)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer, compared = model([given])[0], model.compare(given, wave)
    difference = (answer - torch.from_numpy(wave)).abs().max()
    assert difference == 0 if layout in SAME else difference < 1 / 128
    assert (compared == 0) == (difference == 0)
    answer.fill_(0)
    assert np.array_equal(wave, kept), "the caller's samples stay as they are"


WAVE = (np.random.default_rng(0).integers(-32768, 32768, 1000) / 32768).astype(np.float32)
#: what is refused, and part of the sentence
REFUSED = {
    "int16": ((WAVE * 32768).astype(np.int16), "int16.*divide them by 32768"),
    "big-endian int16": ((WAVE * 32768).astype(">i2"), "int16.*divide them by 32768"),
    "int32": ((WAVE * 32768).astype(np.int32), "int32.*divide them by 2147483648"),
    "uint8": (np.zeros(1000, np.uint8), "not contain floating-point numbers .uint8."),
    "int64 tensor": (torch.zeros(1000, dtype=torch.int64), "not contain floating-point numbers .int64."),
    "int16 tensor": (torch.zeros(1000, dtype=torch.int16), "int16.*divide them by 32768"),
    "bool": (np.zeros(1000, bool), "not contain floating-point numbers .bool."),
    "complex": (WAVE.astype(np.complex64), "not contain floating-point numbers .ndarray of complex64"),
    "complex tensor": (torch.zeros(1000, dtype=torch.complex64), "not contain floating-point numbers .complex64"),
    "objects": (WAVE.astype(object), "not contain floating-point numbers .ndarray of object"),
    "text": (np.array(["a.wav"]), "not contain floating-point numbers .ndarray of str"),
    "bytes": (b"RIFF", "not contain floating-point numbers .bytes"),
    "dates": (np.zeros(1000, "M8[s]"), "not contain floating-point numbers"),
    "records": (np.zeros(1000, [("left", "f4"), ("right", "f4")]), "not contain floating-point numbers"),
    "masked": (np.ma.masked_less(WAVE, 0), "masked"),
    "none": (None, "not contain floating-point numbers .NoneType"),
    "number": (0.5, r"has the shape \(\)"),
    "ragged": ([[0.1, 0.2], [0.3]], "not an array of numbers"),
    "channels first": (np.stack([WAVE, WAVE]), r"has the shape \(2, 1000\)"),
    "channels last": (np.asfortranarray(np.stack([WAVE, WAVE], axis=1)), r"has the shape \(1000, 2\)"),
    "one channel": (torch.from_numpy(WAVE)[None], r"has the shape \(1, 1000\)"),
    "sparse": (torch.from_numpy(WAVE).to_sparse(), "without plain samples"),
    "meta": (torch.empty(1000, device="meta"), "without plain samples"),
    "too large": (np.full(1000, 1e300), "NaN or infinite"),
    "not a number": (WAVE * np.float32("nan"), "NaN or infinite"),
    "empty": (WAVE[:0], "0 samples"),
    "empty list": ([], "0 samples"),
    "a few": (WAVE[:399], "only 399 samples"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_refused_in_one_sentence(model, kind):
    given, sentence = REFUSED[kind]
    for ask in (lambda: model([WAVE, given]), lambda: model.compare(WAVE, given)):
        with warnings.catch_warnings(), pytest.raises(ElpError, match=sentence) as caught:
            warnings.simplefilter("error")
            ask()
        assert "wave 1" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [None, 5, 0.5])
def test_what_is_neither_a_file_nor_a_wave_nor_a_list(model, thing):
    with pytest.raises(ElpError, match="is not an audio file; pass a path"):
        model(thing)


def test_integers_that_came_as_floats_are_a_warning(model):
    LEVELS.take()
    with pytest.warns(LevelWarning, match=r"wave 0 \(up to .*divide 16-bit values by 32768"):
        assert len(model(WAVE * 32768)) == 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        model(WAVE * 30000)
    LEVELS.take()
