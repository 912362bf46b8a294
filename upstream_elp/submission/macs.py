"""Multiply-accumulate operations of an upstream, as SUPERB's form asks for them.

The convention: a MAC is half a FLOP of :class:`torch.utils.flop_counter.FlopCounterMode`, which counts matrix products,
convolutions and attention, and nothing else (no norms, activations, biases or FFTs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, flop_registry

BUCKETS: Mapping[str, tuple[int, ...]] = {
    "macsShort": (20560, 34560, 38480, 42560, 45600, 48720, 52000, 55120),
    "macsMedium": (59120, 62720, 66400, 71200, 75200, 78640, 82800, 87520),
    "macsLong": (92720, 98560, 104400, 111120, 118480, 125040, 132720, 142640),
    "macsLonger": (154000, 166720, 180880, 197920, 217920, 239280, 268160, 326000),
}
"""Samples of the 32 utterances that SUPERB's own counter takes: every 82nd of LibriSpeech's test-clean by length."""


class _Shapes(TorchDispatchMode):
    """Within this context, what is counted is not computed: results have their shapes, filled with zeros.

    Everything else runs, since masks and lengths depend on values.
    """

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            return func(*args, **kwargs)
        given, named = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        results = func(*given, **named)
        return tree_map_only(torch.Tensor, lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype), results)


@torch.no_grad()
def count_macs(upstream: nn.Module, samples: int) -> int:
    """Return the MACs of one forward pass.

    Args:
        upstream: takes a list of waves; on the CPU, in eval mode.
        samples: length of the wave.
    """
    # these two kinds of fused attention are not counted, while what they replace consists of matrix products
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Shapes(), FlopCounterMode(display=False) as counter:
            upstream([torch.zeros(samples)])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


def superb_macs(upstream: nn.Module) -> dict[str, int]:
    """Return the form's five fields: the sums over four buckets of eight utterances, and over all, `macs`."""
    training = upstream.training
    upstream.eval()
    try:
        found = {name: sum(count_macs(upstream, samples) for samples in lengths) for name, lengths in BUCKETS.items()}
    finally:
        upstream.train(training)
    return {"macs": sum(found.values()), **found}
