"""Attention of Hugging Face's WavLM with less work.

The original computes attention weights that nobody asked for, averages them over the heads, copies the position bias
for every utterance, and multiplies every frame with a copy of each frozen projection.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn

from upstream_elp.backbones.attention import apply, attention, position_gate


class LeanAttention:
    """The forward of :func:`lean`'s class; its layer 0 returns the position bias once and not per utterance."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, None, Tensor]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, frames, dim).
            attention_mask: (batch, frames), true on the utterance.
            position_bias: (heads, frames, frames) or (batch * heads, frames, frames), computed by layer 0.
            unused: what the original does not need either, such as the layer's index.

        Returns:
            The output (batch, frames, dim), None in place of weights, and the position bias.
        """
        frames = hidden_states.shape[1]
        if position_bias is None:
            position_bias = self.compute_bias(frames, frames)  # (heads, frames, frames)
        query, key, value = (
            apply(linear, hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )  # (batch, heads, frames, width)
        output = attention(
            query,
            key,
            value,
            bias=position_bias.view(-1, self.num_heads, frames, frames),
            gate=position_gate(hidden_states, self.gru_rel_pos_linear, self.gru_rel_pos_const),
            blocked=None if attention_mask is None else attention_mask.ne(1)[:, None, None],
            dropout=self.dropout if self.training else 0.0,
        ).transpose(1, 2)  # (batch, frames, heads, width)
        return apply(self.out_proj, output.flatten(2).contiguous()), None, position_bias


def make_lean(model: nn.Module) -> None:
    """Replace the class of the attention in every layer of Hugging Face's WavLM; other models stay as they are.

    The outputs differ from the original's by rounding. ``output_attentions`` is no longer available.
    """
    if model.config.model_type == "wavlm":
        for layer in model.encoder.layers:
            layer.attention.__class__ = _lean(type(layer.attention))


@cache
def _lean(original: type[nn.Module]) -> type[nn.Module]:
    return type(f"Lean{original.__name__}", (LeanAttention, original), {"__module__": __name__})
