"""Classes that are mixed into the backbones' own self-attention modules: additional keys and values, and less work.

With prefixes, the same attention is computed over the prefixes and the frames, with WavLM's gated relative position
bias where the module has one. S3PRL's modules compute their attention here without prefixes too: the result is equal
to their own bit by bit, but takes less time and memory, see :mod:`upstream_elp.backbones.attention`. In Hugging Face's
modules the original forward runs if no prefix is switched on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.prefix import Prefix, attend, enabled_prefixes
from upstream_elp.adapters.primitives import Mixin, mix_in
from upstream_elp.backbones.attention import position_gate
from upstream_elp.backbones.family import Family
from upstream_elp.backbones.huggingface_attention import LeanAttention


class PrefixAttention(Mixin):
    """Base of the kinds of attention; the projections have the same names in all of them."""

    position_table: str | None = None
    """Embedding of relative positions; only layer 0 of models with relative positions has it."""
    gate_linear: str | None = None
    """Linear layer of WavLM's gate."""
    gate_constant: str | None = None
    """Constant of WavLM's gate, one per head."""
    fused: bool = False
    """Whether attention with a trained position bias or gate is computed by torch's fused kernel."""

    def position_bias(self, distances: Tensor) -> Tensor:
        """Bias by signed distance, (steps, steps) to (heads, steps, steps); for the attention of layer 0 only."""
        table = getattr(self, self.position_table)
        return table(self._buckets(distances.to(table.weight.device))).permute(2, 0, 1)

    def _buckets(self, distances: Tensor) -> Tensor:
        return self._relative_positions_bucket(distances)

    def _gate(self, x: Tensor) -> Tensor | None:
        """WavLM's gate per query and head, (batch, heads, frames, 1), or None; x is (batch, frames, dim)."""
        linear = getattr(self, self.gate_linear or "", None)
        return None if linear is None else position_gate(x, linear, getattr(self, self.gate_constant))


class FusedAttention(Mixin):
    """Mixed into a :class:`PrefixAttention`, lets it use the fused kernel wherever it can."""

    fused = True


class FairseqAttention(PrefixAttention):
    """S3PRL's attention in wav2vec 2.0, HuBERT, data2vec, WavLM and UniSpeech-SAT."""

    position_table = "relative_attention_bias"
    gate_linear, gate_constant = "grep_linear", "grep_a"

    def _buckets(self, distances: Tensor) -> Tensor:
        return self._relative_positions_bucket(distances, bidirectional=True)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor | None, ...]:
        """Compute self-attention.

        Args:
            query: (frames, batch, dim); key and value are the same tensor.
            key: the same as query.
            value: the same as query.
            key_padding_mask: (batch, frames), true on padding.
            options: the original's other arguments: ``need_weights``, which is true by default and must be false, and
                WavLM's ``position_bias``, (heads, frames, frames) or (batch * heads, frames, frames), computed by
                layer 0. With any other option the original forward runs, unless there is a prefix.

        Returns:
            The output (frames, batch, dim), None in place of weights, and for WavLM the position bias.

        Raises:
            ValueError: there is a prefix, and an option that S3PRL's encoders never use.
        """
        prefixes = enabled_prefixes(self)
        if self._is_unusual(options) or not key is value is query:
            if not prefixes:
                return super().forward(query, key, value, key_padding_mask=key_padding_mask, **options)
            raise ValueError("attention with a prefix supports neither weights, nor attn_mask, nor incremental_state")
        bias = options.get("position_bias")
        if bias is None and getattr(self, "has_relative_attention_bias", False):
            frames = len(query)
            bias = self.compute_bias(frames, frames)  # (heads, frames, frames)
            if bias.requires_grad and not self.fused:  # as the original does, which fixes the order of a sum
                bias = bias.unsqueeze(0).repeat(query.shape[1], 1, 1, 1).flatten(0, 1)
        output = self._attend(query, prefixes, padding=key_padding_mask, bias=bias)
        return (output, None, bias) if hasattr(self, "gru_rel_pos") else (output, None)

    def _is_unusual(self, options: Mapping[str, Any]) -> bool:
        """Whether a call or the module has options of fairseq that none of S3PRL's encoders uses."""
        rest = [value for name, value in options.items() if name not in ("need_weights", "position_bias")]
        if options.get("need_weights", True) or any(value is not None and value is not False for value in rest):
            return True
        if self.bias_k is not None or self.bias_v is not None or self.add_zero_attn or self.k_proj.bias is None:
            return True
        return getattr(self, "use_xformers", False) or getattr(self, "skip_embed_dim_check", False)

    def _attend(self, query: Tensor, prefixes: list[Prefix], *, padding: Tensor | None, bias: Tensor | None) -> Tensor:
        """Compute the output, (frames, batch, dim) like the query."""
        blocked = None if padding is None else padding.bool()[:, None, None]
        x = query.transpose(0, 1)  # (batch, frames, dim)
        options = {
            "blocked": blocked,
            "bias": bias,
            "gate": None if bias is None else self._gate(x),
            "dropout": self.dropout_module.p if self.training else 0.0,
            "fused": self.fused,
        }
        if prefixes:
            return attend(self, prefixes, x, **options).transpose(0, 1)  # (frames, batch, dim)
        return attend(self, prefixes, query, frames_first=True, **options)


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
            position_bias: (heads, frames, frames) or (batch * heads, frames, frames), computed by layer 0.
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
        if position_bias is None:
            frames = hidden_states.shape[1]
            position_bias = self.compute_bias(frames, frames)  # (heads, frames, frames)
            if not isinstance(self, LeanAttention):
                position_bias = position_bias.repeat(len(hidden_states), 1, 1)
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


def fuse(layers: Iterable[nn.Module], family: Family) -> None:
    """Compute attention with a trained position bias by torch's fused kernel: less memory, and another rounding."""
    if family.attention_kind == "fairseq":
        for layer in layers:
            mix_in(layer.get_submodule(family.attention), FusedAttention)


def quicken(layers: Iterable[nn.Module], family: Family) -> None:
    """Let the attention of a frozen backbone's layers run here where that saves work and changes no output."""
    if family.attention_kind == "fairseq":
        for layer in layers:
            mix_in(layer.get_submodule(family.attention), FairseqAttention)
