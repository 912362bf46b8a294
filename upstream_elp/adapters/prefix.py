"""Attention over additional keys and values and the frames, for every layout of the backbones' attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upstream_elp.adapters.injection import Switch
from upstream_elp.backbones.attention import apply, project
from upstream_elp.backbones.attention import attention as compute


class Prefix(Switch):
    """A source of additional keys and values for an attention module, whose child it is.

    Called with the attention module, it returns keys and values, each (length, dim).
    """

    def bias(self, frames: int) -> Tensor | None:
        """Position bias of ``frames`` queries towards the prefix, (heads, frames, length), or None."""
        return None


def enabled_prefixes(attention: nn.Module) -> list[Prefix]:
    """Return the prefixes of an attention module that are switched on."""
    return [child for child in attention.children() if isinstance(child, Prefix) and child.enabled]


def attend(
    attention: nn.Module,
    prefixes: list[Prefix],
    x: Tensor,
    *,
    frames_first: bool = False,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    gate: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = False,
) -> Tensor:
    """Compute the attention of x over the prefixes and x.

    Args:
        attention: module with the projections ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj`` and ``num_heads``.
        prefixes: its prefixes.
        x: (batch, frames, dim), or (frames, batch, dim) if ``frames_first``.
        frames_first: the order of x and of the result.
        blocked: broadcasts to (batch, heads, frames, frames): true where a query may not look, or added to the scores.
        bias: position bias, (heads, frames, frames) or (batch * heads, frames, frames).
        gate: factor of the bias, (batch, heads, frames, 1).
        dropout: of the attention weights.
        fused: see :func:`upstream_elp.backbones.attention.attention`.

    Returns:
        The shape of x.
    """
    heads, time = attention.num_heads, 0 if frames_first else 1
    frames, batch = x.shape[time], x.shape[1 - time]
    pairs = [prefix(attention) for prefix in prefixes]

    def by_heads(steps: Tensor) -> Tensor:
        """The order of x to (batch, heads, steps, dim / heads)."""
        return steps.unflatten(-1, (heads, -1)).permute((1, 2, 0, 3) if frames_first else (0, 2, 1, 3))

    def before(learned: list[Tensor], steps: Tensor) -> Tensor:
        """Put learned steps, each (length, dim), before the frames."""
        parts = [one.to(steps.dtype).unsqueeze(1 - time) for one in learned]
        spread = (-1, batch, -1) if frames_first else (batch, -1, -1)
        return torch.cat([*(part.expand(spread) for part in parts), steps], dim=time) if parts else steps

    query = by_heads(project(x, attention.q_proj))
    key = project(x, attention.k_proj)
    key = by_heads(before([keys for keys, _ in pairs], key))
    value = project(x, attention.v_proj)
    value = by_heads(before([values for _, values in pairs], value))
    if bias is not None:
        bias = bias.view(-1, heads, frames, frames)
        columns = [_columns(prefix, len(keys), bias) for prefix, (keys, _) in zip(prefixes, pairs, strict=True)]
        bias = torch.cat([*columns, bias], dim=-1) if columns else bias  # (1 or batch, heads, frames, length + frames)
    if blocked is not None and pairs:  # every query may look at the prefixes
        blocked = F.pad(blocked, (sum(len(keys) for keys, _ in pairs), 0))
    output = compute(query, key, value, bias=bias, gate=gate, blocked=blocked, dropout=dropout, fused=fused)
    output = output.permute((2, 0, 1, 3) if frames_first else (0, 2, 1, 3)).flatten(2)  # the order of x
    return apply(attention.out_proj, output.contiguous())


def _columns(prefix: Prefix, length: int, bias: Tensor) -> Tensor:
    """Return the position bias towards a prefix, zero if it has no position: (1 or batch, heads, frames, length)."""
    columns = prefix.bias(bias.shape[2])
    shape = (*bias.shape[:3], length)
    return bias.new_zeros(shape) if columns is None else columns.to(bias.dtype).expand(shape)
