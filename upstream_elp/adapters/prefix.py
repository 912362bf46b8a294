"""Further keys and values in the attention of encoder layers: prefix tuning and deep prompts.

Everything in an encoder layer but the attention works frame by frame. So frames that are put before a layer's input and
stripped from its output act on the others only as keys and values, and that is how deep prompts are computed here: the
same numbers, no frame too many anywhere, and hidden states, masks and lengths as the host knows them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upstream_elp.adapters.primitives import Mixin, mix_in
from upstream_elp.injection import Switch, Target
from upstream_elp.options import DeepPrompt, PrefixKV


class Prefix(Switch):
    """Something that gives an attention further keys and values; a child of the attention module."""

    def bias(self, frames: int) -> Tensor | None:
        """Position bias of ``frames`` queries towards the prefix, (heads, frames, length); None for none."""
        return None


class LearnedKeysValues(Prefix):
    """Learned keys and values, in the space that the attention's projections lead to, without a position.

    Args:
        length: number of keys and values.
        dim: width of the encoder.
        std: standard deviation of the initial ones.
    """

    def __init__(self, length: int, dim: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(length, dim) * std)
        self.values = nn.Parameter(torch.randn(length, dim) * std)

    def forward(self, attention: nn.Module) -> tuple[Tensor, Tensor]:
        """Keys and values, each (length, dim)."""
        return self.keys, self.values


class LearnedFrames(Prefix):
    """Learned frames before a layer's input, as the attention sees them: through its projections, with positions.

    Args:
        length: number of frames.
        dim: width of the encoder.
        init: ``xavier`` (uniform) or ``normal``.
        std: standard deviation of normal ones.
        norm: the layer norm that a pre-norm layer's input passes before the attention; None in a post-norm layer.
        positions: attention that holds the table of position biases; None where the model has none.
    """

    def __init__(
        self,
        length: int,
        dim: int,
        *,
        init: str = "xavier",
        std: float = 0.02,
        norm: nn.Module | None = None,
        positions: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(length, dim) * std)
        if init == "xavier":
            nn.init.xavier_uniform_(self.vectors.data.unsqueeze(0))  # the published tensor is (1, length, dim)
        # in tuples, so that the backbone's modules do not appear here a second time
        self._norm, self._positions = (norm,), (positions,)

    def forward(self, attention: nn.Module) -> tuple[Tensor, Tensor]:
        """Keys and values, each (length, dim)."""
        (norm,) = self._norm
        x = self.vectors
        if norm is not None:  # not called: hooks on it are for the layer's own input
            x = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return attention.k_proj(x), attention.v_proj(x)

    def bias(self, frames: int) -> Tensor | None:
        """Bias by distance, the learned frames standing at -length to -1; (heads, frames, length)."""
        (positions,) = self._positions
        if positions is None:
            return None
        table = positions.relative_attention_bias
        distance = torch.arange(-len(self.vectors), 0) - torch.arange(frames).unsqueeze(1)  # (frames, length)
        buckets = positions._relative_positions_bucket(distance, bidirectional=True)
        return table(buckets.to(table.weight.device)).permute(2, 0, 1)


class PrefixAttention(Mixin):
    """What is mixed into the class of S3PRL's self-attention modules; the tensors stay the module's own.

    Without a prefix that is switched on, the original forward runs. With one, the same attention is computed over the
    prefix and the frames, with WavLM's gated relative position bias where the module has it.
    """

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
        """Self-attention.

        Args:
            query: (frames, batch, dim); key and value are the same tensor.
            key: as query.
            value: as query.
            key_padding_mask: (batch, frames), true on padding.
            incremental_state: not supported.
            need_weights: must be false.
            static_kv: not supported.
            attn_mask: not supported.
            before_softmax: not supported.
            need_head_weights: must be false.
            position: WavLM's ``position_bias``, (batch * heads, frames, frames), made by layer 0.

        Returns:
            The output (frames, batch, dim), None in place of weights, and for WavLM the position bias.

        Raises:
            ValueError: for what S3PRL's encoders never ask for.
        """
        prefixes = list(enabled_prefixes(self))
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
            raise ValueError("attention with a prefix knows neither weights, nor masks of pairs, nor increments")
        bias = position.get("position_bias")
        if bias is None and getattr(self, "has_relative_attention_bias", False):
            frames, batch = query.shape[:2]
            bias = self.compute_bias(frames, frames).repeat(batch, 1, 1)  # (batch * heads, frames, frames)
        output = _attend(self, prefixes, query, key_padding_mask, bias)
        return (output, None, bias) if hasattr(self, "gru_rel_pos") else (output, None)


def enabled_prefixes(attention: nn.Module) -> Iterator[Prefix]:
    """The prefixes of an attention module that are switched on."""
    return (child for child in attention.children() if isinstance(child, Prefix) and child.enabled)


def _attend(
    attention: nn.Module, prefixes: list[Prefix], x: Tensor, padding: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attention of x over the prefixes and x; all (frames, batch, dim)."""
    frames, batch, dim = x.shape
    pairs = [prefix(attention) for prefix in prefixes]
    total = sum(len(keys) for keys, _ in pairs)

    def heads(steps: Tensor) -> Tensor:
        """(steps, batch, dim) to (batch, heads, steps, dim / heads)."""
        return steps.view(len(steps), batch, attention.num_heads, -1).permute(1, 2, 0, 3)

    def before(learned: list[Tensor], steps: Tensor) -> Tensor:
        """Put the learned steps, each (length, dim), before the frames; result (length + frames, batch, dim)."""
        return torch.cat([*(one.to(steps.dtype).unsqueeze(1).expand(-1, batch, -1) for one in learned), steps])

    query = heads(attention.q_proj(x))
    key = heads(before([keys for keys, _ in pairs], attention.k_proj(x)))
    value = heads(before([values for _, values in pairs], attention.v_proj(x)))
    mask = None
    if bias is not None:
        bias = bias.view(batch, attention.num_heads, frames, frames)
        columns = [_columns(prefix, len(keys), bias) for prefix, (keys, _) in zip(prefixes, pairs, strict=True)]
        mask = torch.cat([*columns, bias], dim=-1)  # (batch, heads, frames, length + frames)
        if attention.gru_rel_pos:
            mask = _gate(attention, x) * mask
        mask = mask.to(query.dtype)
    if padding is not None:
        ignored = F.pad(padding.bool(), (total, 0)).view(batch, 1, 1, total + frames)
        blocked = torch.zeros_like(ignored, dtype=query.dtype).masked_fill(ignored, float("-inf"))
        mask = blocked if mask is None else mask + blocked
    dropout = attention.dropout_module.p if attention.training else 0.0
    output = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    output = output.permute(2, 0, 1, 3).reshape(frames, batch, dim)  # from (batch, heads, frames, dim / heads)
    return attention.out_proj(output)


def _columns(prefix: Prefix, length: int, bias: Tensor) -> Tensor:
    """Position bias towards a prefix, zero where it has no position: (batch, heads, frames, length)."""
    batch, heads, frames, _ = bias.shape
    columns = prefix.bias(frames)
    shape = (batch, heads, frames, length)
    return bias.new_zeros(shape) if columns is None else columns.to(bias.dtype).unsqueeze(0).expand(shape)


def _gate(attention: nn.Module, x: Tensor) -> Tensor:
    """WavLM's gate per query and head (arXiv 2110.13900, section 3): (batch, heads, frames, 1), from x by heads.

    With the eight outputs of ``grep_linear`` in two groups of four, g the logistic function of the groups' sums and c
    one constant per head, the gate is g1 (c g2 - 1) + 2.
    """
    frames, batch, _ = x.shape
    parts = x.transpose(0, 1).view(batch, frames, attention.num_heads, -1).transpose(1, 2)
    groups = attention.grep_linear(parts).unflatten(-1, (2, 4)).sum(-1)  # (batch, heads, frames, 2)
    first, second = torch.sigmoid(groups).split(1, dim=-1)
    return first * (second * attention.grep_a - 1.0) + 2.0


def inject_prefix_kv(target: Target, options: PrefixKV) -> None:
    """Give each selected layer's attention learned keys and values."""
    for index in target.select(options.layers):
        _give(target, "prefix_kv", index, LearnedKeysValues(options.length, target.dim, std=options.init_std))


def inject_deep_prompt(target: Target, options: DeepPrompt) -> None:
    """Give each selected layer's attention learned frames."""
    first = target.layer(0).get_submodule(target.family.attention)
    positions = first if getattr(first, "has_relative_attention_bias", False) else None
    for index in target.select(options.layers):
        norm = getattr(target.layer(index), target.family.attention_norm) if target.pre_norm else None
        prompt = LearnedFrames(
            options.length, target.dim, init=options.init, std=options.init_std, norm=norm, positions=positions
        )
        _give(target, "deep_prompt", index, prompt)


def _give(target: Target, component: str, index: int, prefix: Prefix) -> None:
    attention = target.layer(index).get_submodule(target.family.attention)
    mix_in(attention, PrefixAttention)
    attention.add_module(component, prefix)
    path = f"{target.layer_path(index)}.{target.family.attention}.{component}"
    target.declare_module(component, str(index), path)
