"""Build a model whose weights a checkpoint replaces, without the random numbers that fill them first.

Drawing them takes longer than everything else in building a model. The result is the same: also the random state is
afterwards that of a build with random numbers, so that whatever is drawn next, such as a head, has the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from upstream_elp.base import randomness, twister

LEAST = 4096
"""Size of the smallest tensor that is worth it."""
_UNIFORM = {Tensor.uniform_, nn.init.uniform_, nn.init.kaiming_uniform_}
_NORMAL = {Tensor.normal_, nn.init.normal_}


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """Return ``make()``, whose random numbers are skipped if all weights that they would fill are replaced.

    Args:
        make: builds the model and copies a checkpoint into it. It is called a second time if a weight that was skipped
            is not replaced, or if torch draws random numbers in another way than is known here.
    """
    before = randomness.capture()
    with Unfilled() as skipped:
        model = make()
    after = torch.get_rng_state()
    # a number drawn in a pair and not used yet would have another value
    if not skipped.gaps_in(model) and twister.pending(after) == twister.pending(before["torch"]) and _draws_are_known():
        torch.set_rng_state(twister.advanced(after, skipped.draws))
        return model
    randomness.restore(before)
    return make()


class Unfilled(TorchFunctionMode):
    """Within this context, large matrices on the CPU are not filled with random numbers.

    Attributes:
        draws: 32-bit words that would have been drawn for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws = 0
        self._gaps: set[int] = set()
        """Addresses of the matrices that were skipped."""
        self._replaced: dict[int, int] = {}
        """Number of values that were last copied to an address, after it was skipped."""

    def gaps_in(self, model: nn.Module) -> bool:
        """Return whether a weight of a model was not replaced, or another of its tensors was skipped."""
        attributes = (value for module in model.modules() for value in vars(module).values())
        others = [*model.buffers(), *(value for value in attributes if isinstance(value, Tensor))]
        wanted = [*model.parameters(), *(tensor for tensor in others if _address(tensor) in self._gaps)]
        return any(self._replaced.get(_address(tensor), 0) < tensor.numel() for tensor in wanted)

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _UNIFORM or func in _NORMAL:
            tensor = args[0] if args else kwargs["tensor"]
            if _can_wait(tensor, kwargs):
                self.draws += words(tensor.numel(), normal=func in _NORMAL)
                self._gaps.add(_address(tensor))
                self._replaced.pop(_address(tensor), None)
                return tensor
        elif func is Tensor.copy_:
            into, source = args[:2]
            if _address(into) != _address(source):
                self._replaced[_address(into)] = into.numel()
        return func(*args, **kwargs)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _can_wait(tensor: Tensor, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a tensor is a large matrix that is filled from torch's default generator.

    Convolutions are filled, as weight norm computes the norms of their weights.
    """
    plain = tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()
    return plain and tensor.dim() == 2 and tensor.numel() >= LEAST and kwargs.get("generator") is None


def words(numel: int, *, normal: bool) -> int:
    """Return the number of 32-bit words that torch draws to fill a contiguous float32 tensor of at least 16 values.

    Normal values are computed from 16 uniform ones at a time; the last 16 values are drawn again if they overlap.
    """
    return numel + 16 * (normal and numel % 16 > 0)


def _draws_are_known() -> bool:
    """Return whether the installed torch draws as :func:`words` says, tried on a few numbers."""
    generator = torch.Generator()
    values = torch.empty(3, 11)
    for fill, normal in ((values.uniform_, False), (values.normal_, True), (values[:2, :8].clone().normal_, True)):
        numel = fill.__self__.numel()
        expected = twister.advanced(generator.get_state(), words(numel, normal=normal))
        fill(generator=generator)
        if not torch.equal(expected, generator.get_state()):
            return False
    return True
