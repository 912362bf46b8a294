"""Further keys and values in the attention of encoder layers: prefix tuning and deep prompts.

Everything in an encoder layer but the attention works frame by frame. So frames that are put before a layer's input and
stripped from its output act on the others only as keys and values, and that is how deep prompts are computed here: the
same numbers, no frame too many anywhere, and hidden states, masks and lengths as the host knows them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upstream_elp.adapters.attention import KINDS, Prefix
from upstream_elp.adapters.contract import Target
from upstream_elp.adapters.options import DeepPrompt, PrefixKV
from upstream_elp.adapters.primitives import mix_in


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
        return positions.position_bias(torch.arange(-len(self.vectors), 0) - torch.arange(frames).unsqueeze(1))


def inject_prefix_kv(target: Target, options: PrefixKV) -> None:
    """Give each selected layer's attention learned keys and values."""
    for index, length in options.lengths(target.injection.layers).items():
        _give(target, "prefix_kv", index, LearnedKeysValues(length, target.dim, std=options.init_std))


def inject_deep_prompt(target: Target, options: DeepPrompt) -> None:
    """Give each selected layer's attention learned frames."""
    family = target.family
    kind = KINDS[family.attention_kind]
    first = target.layer(0).get_submodule(family.attention)
    positions = first if hasattr(first, kind.position_table or "") else None
    if positions is not None:
        mix_in(positions, kind)  # for what it knows of positions, also where layer 0 itself has no prompt
    for index, length in options.lengths(target.injection.layers).items():
        norm = target.layer(index).get_submodule(family.attention_norm) if target.pre_norm else None
        prompt = LearnedFrames(
            length, target.dim, init=options.init, std=options.init_std, norm=norm, positions=positions
        )
        _give(target, "deep_prompt", index, prompt)


def _give(target: Target, component: str, index: int, prefix: Prefix) -> None:
    attention = target.layer(index).get_submodule(target.family.attention)
    mix_in(attention, KINDS[target.family.attention_kind])
    attention.add_module(component, prefix)
    path = f"{target.layer_path(index)}.{target.family.attention}.{component}"
    target.declare_module(component, str(index), path)
