"""Deep prompts: learned frames before the input of encoder layers.

Everything in an encoder layer except the attention works frame by frame. Frames that are put before a layer's input and
stripped from its output therefore affect the others only as keys and values, and this is how deep prompts are computed
here. The numbers are the same, and hidden states, masks and lengths stay as the host expects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upstream_elp.adapters.attention import KINDS, give_prefix
from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Counts, Layers, VectorsPerLayer
from upstream_elp.adapters.prefix import Prefix
from upstream_elp.adapters.primitives import mix_in
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class DeepPrompt(VectorsPerLayer):
    """Learned frames before the input of each layer, stripped from its output.

    As coded for arXiv 2211.02227 and 2306.05350. WavLM sees them at the positions before the first frame.
    """

    length: Counts = 5
    """Number of frames per layer: the same for all layers, or one per selection, such as ``{":6": 2, "top:6": 5}``."""
    layers: Layers = "all"
    init: Literal["xavier", "normal"] = "xavier"
    """``xavier``: uniform, as for a tensor of shape (1, length, width), as coded. ``normal``: normally distributed."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return sum(self.lengths(model.layers).values()) * model.dim

    def inject(self, target: Target) -> None:
        """Add learned frames to the attention of each selected layer."""
        family = target.family
        kind = KINDS[family.attention_kind]
        first = target.layer(0).get_submodule(family.attention)
        positions = first if hasattr(first, kind.position_table or "") else None
        if positions is not None:
            mix_in(positions, kind)  # for its position bias, even if layer 0 itself has no prompt
        for index, length in self.lengths(target.injection.layers).items():
            norm = target.layer(index).get_submodule(family.attention_norm) if target.pre_norm else None
            prompt = LearnedFrames(
                length, target.dim, init=self.init, std=self.init_std, norm=norm, positions=positions
            )
            give_prefix(target, "deep_prompt", index, prompt)


class LearnedFrames(Prefix):
    """Learned frames before a layer's input as the attention sees them: projected, and with positions.

    Args:
        length: number of frames.
        dim: width of the encoder.
        init: ``xavier`` (uniform) or ``normal``.
        std: standard deviation of init ``normal``.
        norm: layer norm between the input of a pre-norm layer and the attention; None in a post-norm layer.
        positions: attention module with the table of position biases; None if the model does not have one.
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
        # in tuples, so that the backbone's modules are not registered here a second time
        self._norm, self._positions = (norm,), (positions,)

    def forward(self, attention: nn.Module) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, dim)."""
        (norm,) = self._norm
        x = self.vectors
        if norm is not None:  # not called, since its hooks are for the layer's own input
            x = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return attention.k_proj(x), attention.v_proj(x)

    def bias(self, frames: int) -> Tensor | None:
        """Return the bias by distance, (heads, frames, length); the learned frames are at positions -length to -1."""
        (positions,) = self._positions
        if positions is None:
            return None
        return positions.position_bias(torch.arange(-len(self.vectors), 0) - torch.arange(frames).unsqueeze(1))
