"""The LSTM layer on padded batches against torch's own on packed sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from downstream_heads.elp_asr.model import RNN_DEFAULTS, RecurrentHead
from downstream_heads.elp_asr.recurrent import PaddedLSTM

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def pack(hidden: Tensor, frames_len: list[int]) -> PackedSequence:
    return pack_padded_sequence(hidden, torch.tensor(frames_len), batch_first=True, enforce_sorted=False)


def gradients(layer: nn.LSTM, hidden: Tensor, frames_len: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Outputs, and the gradients of inputs and parameters for a weighted sum of the outputs."""
    outputs = layer(pack(hidden, frames_len))[0].data
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return outputs, list(torch.autograd.grad((outputs * weights).sum(), [hidden, *layer.parameters()]))


@given(
    frames_len=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    width=st.integers(1, 6),
    bidirectional=st.booleans(),
    training=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
)
@settings(max_examples=80, deadline=None)
def test_outputs_and_gradients_are_those_of_torch(frames_len, width, bidirectional, training, dtype):
    torch.manual_seed(len(frames_len))
    plain = nn.LSTM(width, 3, batch_first=True, bidirectional=bidirectional, dtype=dtype).train(training)
    ours = PaddedLSTM.replacing(plain)
    ours.train(training)
    hidden = torch.randn(len(frames_len), max(frames_len), width, dtype=dtype, requires_grad=True)
    for expected, got in zip(gradients(plain, hidden, frames_len), gradients(ours, hidden, frames_len), strict=True):
        torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_order_of_the_utterances_is_kept():
    torch.manual_seed(0)
    plain = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
    packed = pack(torch.randn(3, 7, 2), [2, 7, 4])
    expected, got = plain(packed)[0], PaddedLSTM.replacing(plain)(packed)[0]
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(got, name), getattr(expected, name))


def test_the_parameters_are_the_layers_own():
    plain = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
    ours = PaddedLSTM.replacing(plain)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert all(own is other for own, other in zip(ours.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(("module", "kind"), [("LSTM", PaddedLSTM), ("GRU", nn.GRU)])
def test_the_head_has_it_where_it_has_lstms(module, kind):
    head = RecurrentHead(4, 5, upstream_rate=320, options={**RNN_DEFAULTS, "module": module, "dim": [3, 3]})
    assert [type(rnn.layer) for rnn in head.rnns] == [kind, kind]
