"""An LSTM layer that is fast on CPUs.

On a CPU, torch computes packed sequences frame by frame, and its backward pass fills a tensor of all frames with zeros
for each of them. Its fused kernel takes padded batches only. There, the backward direction would begin in the padding;
so each utterance is reversed within its own length first. This computes the same function in less than half the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


class PaddedLSTM(nn.LSTM):
    """One LSTM layer over packed sequences.

    Parameters, state-dict keys and function are those of ``nn.LSTM``; outputs differ from it by rounding. On other
    devices than the CPU, ``nn.LSTM`` computes them.
    """

    @classmethod
    def replacing(cls, layer: nn.LSTM) -> PaddedLSTM:
        """Take over the parameters of a layer with biases."""
        names = ("input_size", "hidden_size", "batch_first", "bidirectional")
        own = cls(**{name: getattr(layer, name) for name in names}, device="meta")
        own.load_state_dict(layer.state_dict(keep_vars=True), assign=True)
        return own

    def forward(self, packed: PackedSequence, hx: None = None) -> tuple[PackedSequence, Any]:
        """Return the packed outputs and, unlike ``nn.LSTM``, on a CPU None instead of the last states.

        Shape:
            packed: data ``(frames, input_size)`` -> ``(frames, directions * hidden_size)``, for all utterances together
        """
        if packed.data.device.type != "cpu":
            return super().forward(packed, hx)
        padded, frames_len = pad_packed_sequence(PackedSequence(packed.data, packed.batch_sizes))
        outputs = [self._direction(padded, "")]  # each (frames, batch, hidden_size), longest utterance first
        if self.bidirectional:
            order = _reversal(frames_len, frames=len(padded))
            outputs.append(_reorder(self._direction(_reorder(padded, order), "_reverse"), order))
        data = pack_padded_sequence(torch.cat(outputs, dim=-1), frames_len).data
        return PackedSequence(data, *packed[1:]), None

    def _direction(self, padded: Tensor, suffix: str) -> Tensor:
        weights = [getattr(self, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        state = padded.new_zeros(1, padded.shape[1], self.hidden_size)
        return torch.lstm(padded, (state, state), weights, True, 1, 0.0, self.training, False, False)[0]


def _reversal(frames_len: Tensor, *, frames: int) -> Tensor:
    """Return the rows of a flattened ``(frames, batch)`` that reverse each utterance and leave its padding in place."""
    time = torch.arange(frames).unsqueeze(1)
    rows = torch.where(time < frames_len, frames_len - 1 - time, time)  # (frames, batch)
    return (rows * len(frames_len) + torch.arange(len(frames_len))).flatten()


def _reorder(padded: Tensor, rows: Tensor) -> Tensor:
    return padded.flatten(0, 1).index_select(0, rows).view_as(padded)
