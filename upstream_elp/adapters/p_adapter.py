"""P-adapter: learned pseudo features next to the CNN features.

Our reading: arXiv 2407.21066 only says that one adapter appends pseudo features to the CNN features. Their number,
position, site and initialisation are our choices, and all of them are configurable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.adapters.kinds import UNRELATED, check_counts, check_std
from upstream_elp.backbones.architecture import Architecture


@dataclass(frozen=True)
class PAdapter(Method):
    """P-adapter: learned pseudo features next to the CNN features.

    Our reading: arXiv 2407.21066 only says that it appends pseudo features to the CNN features.
    """

    length: int = 10
    """Number of pseudo frames (10 as in the prompts of arXiv 2210.06175)."""
    position: Literal["end", "start"] = "end"
    """``end``: right after the last frame of each utterance; ``start``: before its first frame."""
    site: Literal["projected", "cnn"] = "projected"
    """``projected``: vectors of the model's width; ``cnn``: vectors of the CNN's width, which pass its norm and
    projection."""
    init: Literal["normal", "ones"] = "normal"
    """``normal``: drawn from a normal distribution; ``ones``: all ones, as in the prompts of arXiv 2210.06175."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def moves_at_init(self) -> float:
        """The frames see ten additional keys, and a random backbone attends to all keys about equally."""
        return UNRELATED

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that cannot fit any model."""
        check_counts(self.length, f"{where}.length")
        check_std(self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Accept every model."""

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        return self.length * (model.cnn_dim if self.site == "cnn" else model.dim)

    def inject(self, target: Target) -> None:
        """Register the pseudo features as a pre-hook of the encoder."""
        family, model = target.family, target.model
        encoder = model.get_submodule(family.encoder)
        norm, projection = (attrgetter(path)(model) for path in (family.cnn_norm, family.projection))
        at_cnn = self.site == "cnn"
        encoder.p_adapter = PseudoFeatures(
            self.length,
            norm.normalized_shape[0] if at_cnn else target.dim,
            position=self.position,
            mask_argument=family.mask_argument,
            mask_marks_padding=family.mask_marks_padding,
            through=[module for module in (norm, projection) if module is not None] if at_cnn else (),
            init=self.init,
            std=self.init_std,
        )
        encoder.register_forward_pre_hook(encoder.p_adapter, with_kwargs=True)
        target.injection.pseudo_path = f"{target.injection.model_path}.{family.encoder}.p_adapter"
        target.declare_module("p_adapter", "", target.injection.pseudo_path)


class PseudoFeatures(Switch):
    """Inserts ``length`` learned frames into each utterance before the encoder and removes them from hidden states.

    It is registered as a forward pre-hook of the encoder, with keyword arguments. At position ``end`` the frames come
    right after the last frame of each utterance, so that an utterance sees the same in a padded batch as by itself.
    The expert sets the number of frames of each utterance with :meth:`set_lengths`, from the CNN's length formula.
    S3PRL's own padding mask may count one frame too many in a batch; frames beyond the formula are masked here.

    Args:
        length: number of pseudo frames.
        width: width of a vector, the encoder's or the CNN's.
        position: ``end`` or ``start``.
        mask_argument: name of the encoder's mask argument.
        mask_marks_padding: whether that mask is true on padding; otherwise it is true on the utterance.
        through: modules that vectors of the CNN's width pass before they join the projected features; otherwise empty.
        init: initial vectors, ``normal`` or ``ones``.
        std: standard deviation of init ``normal``.
    """

    def __init__(
        self,
        length: int,
        width: int,
        *,
        position: str = "end",
        mask_argument: str = "padding_mask",
        mask_marks_padding: bool = True,
        through: Sequence[nn.Module] = (),
        init: str = "normal",
        std: float = 0.02,
    ) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.ones(length, width) if init == "ones" else torch.randn(length, width) * std)
        self.position = position
        self.mask_argument = mask_argument
        self.mask_marks_padding = mask_marks_padding
        self._through = tuple(through)  # a tuple, so that the backbone's modules are not registered here a second time
        self._frame_len: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of pseudo frames."""
        return self.vectors.shape[0]

    def set_lengths(self, frame_len: Tensor | None) -> None:
        """Set the number of frames of each utterance in the next batch, shape (batch,); None after the batch.

        The tensor stays on the CPU, so that reading it does not wait for a GPU.
        """
        self._frame_len = frame_len

    def forward(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Run as the pre-hook: extend the features and rebuild the padding mask.

        Raises:
            RuntimeError: the lengths of the batch were not set.
        """
        if not self.enabled:
            return None
        if self._frame_len is None:
            raise RuntimeError("pseudo features need the lengths of the utterances; call the expert, not its backbone")
        x, *rest = args
        frames = x.shape[1]
        frame_len = self._frame_len.clamp(max=frames)
        extended = self._insert(x, frame_len)  # (batch, frames + length, dim)
        kwargs = dict(kwargs)
        if kwargs.get(self.mask_argument) is not None:
            padding = torch.arange(frames + self.length) >= (frame_len + self.length).unsqueeze(1)
            mask = padding if self.mask_marks_padding else ~padding
            kwargs[self.mask_argument] = mask.to(x.device)  # (batch, frames + length)
        return (extended, *rest), kwargs

    def _insert(self, x: Tensor, frame_len: Tensor) -> Tensor:
        vectors = self.vectors
        for module in self._through:
            vectors = module(vectors)
        vectors = vectors.to(x.dtype).expand(x.shape[0], -1, -1)
        if self.position == "start":
            return torch.cat([vectors, x], dim=1)
        both = torch.cat([x, vectors], dim=1)
        if bool((frame_len == x.shape[1]).all()):
            return both
        frames, total = x.shape[1], both.shape[1]
        step = torch.arange(total).unsqueeze(0)  # (1, frames + length)
        end = frame_len.unsqueeze(1)
        pseudo = frames + step - end
        index = torch.where(step < end, step, torch.where(step < end + self.length, pseudo, step - self.length))
        return _take_frames(both, index.to(x.device))

    def strip(self, states: Sequence[Tensor], frame_len: Tensor) -> list[Tensor]:
        """Remove the pseudo frames from hidden states.

        Args:
            states: tensors of the same shape, (batch, frames + length, dim).
            frame_len: (batch,), the number of real frames of each utterance.

        Returns:
            One tensor (batch, frames, dim) per state: the real frames, then what the encoder computed for the padding.
        """
        if not self.enabled:
            return list(states)
        frames = states[0].shape[1] - self.length
        if self.position == "start":
            return [state[:, self.length :] for state in states]
        frame_len = frame_len.clamp(max=frames)
        if bool((frame_len == frames).all()):
            return [state[:, :frames] for state in states]
        step = torch.arange(frames).unsqueeze(0)  # (1, frames)
        index = torch.where(step < frame_len.unsqueeze(1), step, step + self.length).to(states[0].device)
        return [_take_frames(state, index) for state in states]


def _take_frames(x: Tensor, index: Tensor) -> Tensor:
    """Pick frames per utterance: x (batch, frames, dim), index (batch, steps) to (batch, steps, dim)."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
