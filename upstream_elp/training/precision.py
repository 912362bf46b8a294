"""Mixed precision of the upstream, in training and evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from upstream_elp.base.choices import PRECISIONS, torch_type
from upstream_elp.base.errors import ElpError
from upstream_elp.training.collectives import rank
from upstream_elp.training.units import warn_without_bf16_units


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step; ``finite`` says whether loss and gradient were."""

    made: bool
    problem: str | None = None
    finite: bool = True


class Precision:
    """Autocast for upstream and featurizer, and the loss scaling that fp16 needs.

    The head and its loss run in float32: they are small, and losses such as CTC need it.

    Args:
        runner: the config's runner block with ``precision``, or S3PRL's ``fp16: true``.
        device: where the models are.

    Raises:
        ElpError: an unknown precision, or one that the device does not support.
    """

    def __init__(self, runner: dict[str, Any], device: str | torch.device) -> None:
        self.name = name_of(runner)
        self.device = torch.device(device)
        if self.name == "bf16" and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ElpError("runner.precision is bf16, which this GPU does not support; choose fp16 or fp32")
        if self.name == "bf16" and self.device.type == "cpu" and rank() == 0:
            warn_without_bf16_units()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")

    def autocast(self) -> torch.autocast:
        """The context for the upstream and the featurizer."""
        low = self.name != "fp32"
        return torch.autocast(self.device.type, dtype=torch_type(self.name if low else "bf16"), enabled=low)

    def step(self, optimizer: torch.optim.Optimizer, *, loss: float, norm: float) -> Outcome:
        """Make a step with unscaled and clipped gradients, unless the loss or the gradient is not finite.

        Args:
            optimizer: the optimizer.
            loss: the step's loss, averaged over ranks.
            norm: the gradient's norm before clipping.

        Returns:
            Whether the step was made, and the problem if it was not. If only fp16's scale was too large, it is lowered
            and there is no problem.
        """
        scale = self.scaler.get_scale()
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            self.scaler.step(optimizer)
        self.scaler.update()  # lowers the scale where a gradient overflowed
        if finite or (math.isfinite(loss) and self.scaler.get_scale() < scale and scale > 1):
            return Outcome(made=finite)
        what = "gradient" if math.isfinite(loss) else "loss"
        return Outcome(made=False, problem=f"the {what} is not finite", finite=False)


def name_of(runner: dict[str, Any]) -> str:
    """The precision that a runner block asks for.

    Raises:
        ElpError: an unknown precision, or two keys that contradict each other.
    """
    name = runner.get("precision", "fp16" if runner.get("fp16") else "fp32")
    if name not in PRECISIONS:
        raise ElpError(f"runner.precision must be one of {', '.join(PRECISIONS)}, but is {name!r}")
    if runner.get("fp16") and name != "fp16":
        raise ElpError(f"runner.fp16 is true, but runner.precision is {name}; remove one of them")
    return name
