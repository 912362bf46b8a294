"""The arithmetic of self-attention with a gated position bias, without copies per utterance and with little memory.

Torch's fused kernels on the CPU do not give the bias a gradient. As soon as WavLM's gate needs one, torch takes a path
that keeps several tensors of shape (batch, heads, frames, frames) per layer for the backward pass and computes its
output with another rounding. :func:`attention` can compute its output with the fused kernel, and keeps none of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class OwnProduct:
    """Base of classes that are mixed into a linear layer whose weight is trained: another backward pass.

    Attention often reads the weights of its projections instead of calling them, so there is a method for it too.
    """

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``F.linear(x, weight, bias)``, where weight and bias are the layer's own and the weight is trained."""
        raise NotImplementedError


def apply(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to x of shape (..., dim) without calling it, with the result of ``F.linear``."""
    weight, bias = linear.weight, linear.bias
    if weight.requires_grad and isinstance(linear, OwnProduct):
        return linear.product(x, weight, bias)
    return F.linear(x, weight, bias)


def project(x: Tensor, linear: nn.Linear) -> Tensor:
    """Do the same as :func:`apply` for x of shape (frames, batch, dim).

    For a frozen weight and an x that is not contiguous, such as the input of S3PRL's first layer, torch multiplies
    every frame with a copy of the weight. In low precision it really makes these copies, which takes longer than
    several layers; in full precision they cost little, and the result is kept equal to the last bit.
    """
    low = torch.is_autocast_enabled(x.device.type) or x.dtype.itemsize < torch.float32.itemsize
    if x.is_contiguous() or not low or (weight := linear.weight).requires_grad:
        return apply(linear, x)
    rows = x.transpose(0, 1)  # (batch, frames, dim)
    output = torch.mm(rows.flatten(0, 1), weight.t()).unflatten(0, rows.shape[:2])
    return output.add_(linear.bias.to(output.dtype)).transpose(0, 1)  # (frames, batch, dim)


def position_gate(x: Tensor, linear: nn.Linear, constant: Tensor) -> Tensor:
    """WavLM's gate of the position bias, per query and head (arXiv 2110.13900, section 3).

    The linear layer has eight outputs, in two groups of four. With g1 and g2 the logistic function of the sum of each
    group, and c one constant per head, the gate is g1 (c g2 - 1) + 2.

    Args:
        x: (batch, frames, dim).
        linear: from the width of a head to eight.
        constant: (1, heads, 1, 1).

    Returns:
        (batch, heads, frames, 1).
    """
    parts = x.unflatten(-1, (constant.shape[1], -1)).transpose(1, 2)  # (batch, heads, frames, dim / heads)
    groups = linear(parts).unflatten(-1, (2, 4)).sum(-1)  # (batch, heads, frames, 2)
    first, second = torch.sigmoid(groups).split(1, dim=-1)
    return first * (second * constant - 1.0) + 2.0


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None = None,
    gate: Tensor | None = None,
    blocked: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Tensor:
    """Compute attention.

    Args:
        query: (batch, heads, frames, width).
        key: (batch, heads, steps, width).
        value: (batch, heads, steps, width).
        bias: position bias, (1 or batch, heads, frames, steps), or None.
        gate: factor of the bias, (batch, heads, frames, 1), or None.
        blocked: broadcasts to (batch, heads, frames, steps): true where a query may not look, or added to the scores.
        dropout: of the attention weights.
        fused: whether the fused kernel also computes attention whose bias or gate is trained, on the CPU and without
            dropout. Otherwise torch chooses.

    Returns:
        (batch, heads, frames, width).
    """
    if blocked is not None and blocked.dtype == torch.bool:
        if bias is not None and blocked.device.type == "cpu" and not blocked.any():
            return attention(query, key, value, bias=bias, gate=gate, dropout=dropout, fused=fused)
        blocked = torch.zeros_like(blocked, dtype=query.dtype).masked_fill_(blocked, float("-inf"))
    trained = bias is not None and (bias.requires_grad or (gate is not None and gate.requires_grad))
    if fused and trained and torch.is_grad_enabled() and query.device.type == "cpu" and not dropout:
        return _BiasedAttention.apply(query, key, value, bias, gate, blocked)
    return F.scaled_dot_product_attention(query, key, value, _mask(bias, gate, blocked, query.dtype), dropout)


def _mask(bias: Tensor | None, gate: Tensor | None, blocked: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores; it broadcasts to (batch, heads, frames, steps)."""
    mask = bias if gate is None or bias is None else gate * bias
    if blocked is not None:
        mask = blocked if mask is None else mask + blocked
    return None if mask is None else mask.to(dtype)


class _BiasedAttention(torch.autograd.Function):
    """Attention whose bias and gate get gradients; the attention weights are computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, gate: Tensor | None, blocked: Tensor | None
    ) -> Tensor:
        tensors = [None if t is None else t.detach() for t in (query, key, value, bias, gate, blocked)]
        mask = _mask(*tensors[3:], query.dtype)
        output = F.scaled_dot_product_attention(*tensors[:3], mask)
        ctx.save_for_backward(query, key, value, output, bias, gate, blocked)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False):
            return _gradients(gradient, *ctx.saved_tensors, bias_too=ctx.needs_input_grad[3])


def _gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    bias: Tensor,
    gate: Tensor | None,
    blocked: Tensor | None,
    *,
    bias_too: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs of :class:`_BiasedAttention`, one utterance at a time: its scores fit into the cache.

    With scores S, weights P = softmax(S) and output O = P V, the gradient of S is P (dO V' - sum(dO O)), where the sum
    is over the width. Low precision is computed in float32.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    scale = query.shape[-1] ** -0.5
    d_query, d_key, d_value = (torch.empty_like(part) for part in (query, key, value))
    d_gate = None if gate is None else torch.empty_like(gate)
    d_bias = torch.zeros_like(bias) if bias_too else None
    for index in range(len(query)):
        parts = (part[index].to(precision) for part in (query, key, value, output, gradient))
        q, k, v, out, d_out = parts  # (heads, frames, width); k and v (heads, steps, width)
        table = bias[index % len(bias)]  # (heads, frames, steps)
        one_gate = None if gate is None else gate[index]
        row = None if blocked is None else blocked[index % len(blocked)]
        mask = _mask(table, one_gate, row, query.dtype).to(precision)
        q = q * scale
        weights = torch.baddbmm(mask, q, k.transpose(1, 2)).softmax(-1)  # (heads, frames, steps)
        d_scores = torch.bmm(d_out, v.transpose(1, 2))
        d_scores.sub_((d_out * out).sum(-1, keepdim=True)).mul_(weights)
        d_value[index] = torch.bmm(weights.transpose(1, 2), d_out)
        d_key[index] = torch.bmm(d_scores.transpose(1, 2), q)
        d_query[index] = torch.bmm(d_scores, k).mul_(scale)
        if d_bias is not None:
            d_bias[index % len(bias)] += d_scores if one_gate is None else one_gate * d_scores
        if d_gate is not None:
            d_gate[index] = d_scores.mul_(table).sum(-1, keepdim=True)
    return d_query, d_key, d_value, d_bias, d_gate, None
