"""Attention with additional keys and values: classes that are mixed into the backbones' own self-attention modules.

If no prefix is switched on, the original forward runs. Otherwise the same attention is computed over the prefixes and
the frames, with WavLM's gated relative position bias where the module has one.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.adapters.primitives import Mixin, mix_in


class Prefix(Switch):
    """A source of additional keys and values for an attention module, whose child it is.

    Called with the attention module, it returns keys and values, each (length, dim).
    """

    def bias(self, frames: int) -> Tensor | None:
        """Position bias of ``frames`` queries towards the prefix, (heads, frames, length), or None."""
        return None


class PrefixAttention(Mixin):
    """Base of the kinds of attention; the projections have the same names in all of them."""

    position_table: str | None = None
    """Embedding of relative positions; only layer 0 of models with relative positions has it."""
    gate_linear: str | None = None
    """Linear layer of WavLM's gate."""
    gate_constant: str | None = None
    """Constant of WavLM's gate, one per head."""

    def position_bias(self, distances: Tensor) -> Tensor:
        """Bias by signed distance, (steps, steps) to (heads, steps, steps); for the attention of layer 0 only."""
        table = getattr(self, self.position_table)
        return table(self._buckets(distances.to(table.weight.device))).permute(2, 0, 1)

    def _buckets(self, distances: Tensor) -> Tensor:
        return self._relative_positions_bucket(distances)

    def _gate(self, x: Tensor) -> Tensor | None:
        """WavLM's gate per query and head (arXiv 2110.13900, section 3): (batch, heads, frames, 1), from x by heads.

        The linear layer has eight outputs, in two groups of four. With g1 and g2 the logistic function of the sum of
        each group, and c one constant per head, the gate is g1 (c g2 - 1) + 2.
        """
        linear = getattr(self, self.gate_linear or "", None)
        if linear is None:
            return None
        parts = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, frames, dim / heads)
        groups = linear(parts).unflatten(-1, (2, 4)).sum(-1)  # (batch, heads, frames, 2)
        first, second = torch.sigmoid(groups).split(1, dim=-1)
        return first * (second * getattr(self, self.gate_constant) - 1.0) + 2.0


class FairseqAttention(PrefixAttention):
    """S3PRL's attention in wav2vec 2.0, HuBERT, data2vec, WavLM and UniSpeech-SAT."""

    position_table = "relative_attention_bias"
    gate_linear, gate_constant = "grep_linear", "grep_a"

    def _buckets(self, distances: Tensor) -> Tensor:
        return self._relative_positions_bucket(distances, bidirectional=True)

    def forward(  # the original's arguments, in its order
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        incremental_state: dict | None = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Tensor | None = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
        **position: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Compute self-attention.

        Args:
            query: (frames, batch, dim); key and value are the same tensor.
            key: the same as query.
            value: the same as query.
            key_padding_mask: (batch, frames), true on padding.
            incremental_state: must be None if there is a prefix.
            need_weights: must be false if there is a prefix.
            static_kv: must be false if there is a prefix.
            attn_mask: must be None if there is a prefix.
            before_softmax: must be false if there is a prefix.
            need_head_weights: must be false if there is a prefix.
            position: WavLM's ``position_bias``, (batch * heads, frames, frames), computed by layer 0.

        Returns:
            The output (frames, batch, dim), None in place of weights, and for WavLM the position bias.

        Raises:
            ValueError: an option that S3PRL's encoders never use.
        """
        prefixes = enabled_prefixes(self)
        if not prefixes:
            return super().forward(
                query,
                key,
                value,
                key_padding_mask=key_padding_mask,
                incremental_state=incremental_state,
                need_weights=need_weights,
                static_kv=static_kv,
                attn_mask=attn_mask,
                before_softmax=before_softmax,
                need_head_weights=need_head_weights,
                **position,
            )
        unusual = need_weights or need_head_weights or before_softmax or static_kv
        if unusual or attn_mask is not None or incremental_state is not None:
            raise ValueError("attention with a prefix supports neither weights, nor attn_mask, nor incremental_state")
        bias = position.get("position_bias")
        if bias is None and getattr(self, "has_relative_attention_bias", False):
            frames, batch = query.shape[:2]
            bias = self.compute_bias(frames, frames).repeat(batch, 1, 1)  # (batch * heads, frames, frames)
        output = self._attend(query, prefixes, padding=key_padding_mask, bias=bias)
        return (output, None, bias) if hasattr(self, "gru_rel_pos") else (output, None)

    def _attend(self, query: Tensor, prefixes: list[Prefix], *, padding: Tensor | None, bias: Tensor | None) -> Tensor:
        """Compute the output with prefixes, (frames, batch, dim) like the query."""
        x = query.transpose(0, 1)  # (batch, frames, dim)
        blocked = None if padding is None else padding.bool()[:, None, None]
        dropout = self.dropout_module.p if self.training else 0.0
        output = attend(self, prefixes, x, blocked=blocked, bias=bias, gate=self._gate(x), dropout=dropout)
        return output.transpose(0, 1)  # (frames, batch, dim)


#: what Hugging Face's attention returns after the output: weights, and in transformers 4 an unused cache
_AFTER_OUTPUT = (None,) * (1 if int(version("transformers").split(".")[0]) >= 5 else 2)


class HuggingFaceAttention(PrefixAttention):
    """Hugging Face's attention in wav2vec 2.0 and HuBERT."""

    def forward(self, hidden_states: Tensor, *unused: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, frames, dim).
            unused: must be empty if there is a prefix.
            kwargs: ``attention_mask``, (batch, 1, frames, frames): boolean and true where a query may look, or added to
                the scores. Everything else is passed to the original.

        Raises:
            ValueError: an option that the encoders never use.
        """
        prefixes = enabled_prefixes(self)
        if not prefixes:
            return super().forward(hidden_states, *unused, **kwargs)
        mask = kwargs.get("attention_mask")
        wanted = [kwargs.get(name) for name in ("output_attentions", "layer_head_mask", "key_value_states")]
        if unused or any(value is not None and value is not False for value in wanted):
            raise ValueError("attention with a prefix supports neither weights, nor head masks, nor cross-attention")
        if mask is not None and mask.dim() != 4:
            raise ValueError("attention with a prefix needs attn_implementation sdpa or eager")
        blocked = ~mask if mask is not None and mask.dtype == torch.bool else mask
        dropout = self.dropout if self.training else 0.0
        return (attend(self, prefixes, hidden_states, blocked=blocked, dropout=dropout), *_AFTER_OUTPUT)


class HuggingFaceWavLMAttention(PrefixAttention):
    """Hugging Face's attention in WavLM."""

    position_table = "rel_attn_embed"
    gate_linear, gate_constant = "gru_rel_pos_linear", "gru_rel_pos_const"

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor | None, ...]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, frames, dim).
            attention_mask: (batch, frames), true on the utterance.
            position_bias: (batch * heads, frames, frames), computed by layer 0.
            kwargs: passed to the original.

        Returns:
            The output (batch, frames, dim), None in place of weights, and the position bias.

        Raises:
            ValueError: attention weights are requested while there is a prefix.
        """
        prefixes = enabled_prefixes(self)
        if not prefixes:
            return super().forward(hidden_states, attention_mask, position_bias, **kwargs)
        if kwargs.get("output_attentions"):
            raise ValueError("attention with a prefix does not return weights")
        batch, frames, _ = hidden_states.shape
        if position_bias is None:
            position_bias = self.compute_bias(frames, frames).repeat(batch, 1, 1)
        blocked = None if attention_mask is None else attention_mask.ne(1)[:, None, None]
        dropout = self.dropout if self.training else 0.0
        gate = self._gate(hidden_states)
        output = attend(self, prefixes, hidden_states, blocked=blocked, bias=position_bias, gate=gate, dropout=dropout)
        return output, None, position_bias


KINDS: dict[str, type[PrefixAttention]] = {
    "fairseq": FairseqAttention,
    "hugging_face": HuggingFaceAttention,
    "hugging_face_wavlm": HuggingFaceWavLMAttention,
}
"""Classes to mix in, by :attr:`upstream_elp.backbones.family.Family.attention_kind`."""


def give_prefix(target: Target, component: str, index: int, prefix: Prefix) -> None:
    """Add a prefix to the attention of layer ``index``, and declare it."""
    attention = target.layer(index).get_submodule(target.family.attention)
    mix_in(attention, KINDS[target.family.attention_kind])
    attention.add_module(component, prefix)
    path = f"{target.layer_path(index)}.{target.family.attention}.{component}"
    target.declare_module(component, str(index), path)


def enabled_prefixes(attention: nn.Module) -> list[Prefix]:
    """Return the prefixes of an attention module that are switched on."""
    return [child for child in attention.children() if isinstance(child, Prefix) and child.enabled]


def attend(
    attention: nn.Module,
    prefixes: list[Prefix],
    x: Tensor,
    *,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    gate: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Compute the attention of x over the prefixes and x.

    Args:
        attention: module with the projections ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj`` and ``num_heads``.
        prefixes: its prefixes.
        x: (batch, frames, dim).
        blocked: broadcasts to (batch, heads, frames, frames): true where a query may not look, or added to the scores.
        bias: position bias, (batch * heads, frames, frames).
        gate: factor of the bias, (batch, heads, frames, 1).
        dropout: of the attention weights.

    Returns:
        (batch, frames, dim).
    """
    batch, frames, _ = x.shape
    heads = attention.num_heads
    pairs = [prefix(attention) for prefix in prefixes]

    def by_heads(steps: Tensor) -> Tensor:
        """(batch, steps, dim) to (batch, heads, steps, dim / heads)."""
        return steps.unflatten(-1, (heads, -1)).transpose(1, 2)

    def before(learned: list[Tensor], steps: Tensor) -> Tensor:
        """Put learned steps, each (length, dim), before the frames: (batch, length + frames, dim)."""
        return torch.cat([*(one.to(steps.dtype).expand(batch, -1, -1) for one in learned), steps], dim=1)

    query = by_heads(attention.q_proj(x))
    key = by_heads(before([keys for keys, _ in pairs], attention.k_proj(x)))
    value = by_heads(before([values for _, values in pairs], attention.v_proj(x)))
    mask = None
    if bias is not None:
        bias = bias.view(batch, heads, frames, frames)
        columns = [_columns(prefix, len(keys), bias) for prefix, (keys, _) in zip(prefixes, pairs, strict=True)]
        mask = torch.cat([*columns, bias], dim=-1)  # (batch, heads, frames, length + frames)
        mask = (mask if gate is None else gate * mask).to(query.dtype)
    if blocked is not None:
        if blocked.dtype == torch.bool:
            blocked = torch.zeros_like(blocked, dtype=query.dtype).masked_fill(blocked, float("-inf"))
        blocked = F.pad(blocked, (sum(len(keys) for keys, _ in pairs), 0))  # every query may look at the prefixes
        mask = blocked if mask is None else mask + blocked
    output = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    return attention.out_proj(output.transpose(1, 2).flatten(2))


def _columns(prefix: Prefix, length: int, bias: Tensor) -> Tensor:
    """Return the position bias towards a prefix, zero if it has no position: (batch, heads, frames, length)."""
    batch, heads, frames, _ = bias.shape
    columns = prefix.bias(frames)
    shape = (batch, heads, frames, length)
    return bias.new_zeros(shape) if columns is None else columns.to(bias.dtype).expand(shape)
