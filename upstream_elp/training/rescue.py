"""What ends a training in the middle, such as a bad file, takes none of its steps: they are saved first."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upstream_elp.base import randomness
from upstream_elp.base.errors import ElpError, sentence_of
from upstream_elp.experiment.existing import going_on
from upstream_elp.training import record
from upstream_elp.training.stop import EndedElsewhere, StopRequest

if TYPE_CHECKING:
    from upstream_elp.training.loop import Training


@dataclass(frozen=True)
class Mark:
    """A place between two steps to which a training can go back: parameters and optimizer are still those of then."""

    position: dict[str, Any]
    random: dict[str, Any]

    @classmethod
    def of(cls, training: Training) -> Mark:
        """Where the training is now."""
        return cls(training.position.mark(), randomness.capture(training.device))


@contextlib.contextmanager
def kept(training: Training, request: StopRequest) -> Iterator[None]:
    """Save the steps that were made before an exception ends the block.

    Raises:
        ElpError: the one that ended it, with what was saved and how to go on; any other exception as it came.
    """
    try:
        yield
    except Exception as error:
        saved = _saved(training, request, error)
        if saved is None:
            raise
        if not isinstance(error, ElpError):
            training.bar.write(f"elp: {saved}", file=sys.stderr)
            raise
        raise ElpError(f"{sentence_of(error)}; {saved}") from error


def _saved(training: Training, request: StopRequest, error: Exception) -> str | None:
    """Save on all ranks what was trained before an error, and say so; None where there is nothing, or no way back."""
    mark = training.mark
    if mark is None or (training.in_step and record.ranks() > 1):  # the other ranks wait for this one's gradients
        return None
    if not isinstance(error, EndedElsewhere):
        request.agreed(training.device, failed=True)
    training.position.back(mark.position)
    step = training.position.step
    if step == training.began:
        return None
    name, problem = f"states-{step}.ckpt", ""
    try:
        training.save([name] if training.saved != step else [], random=record.gathered(mark.random))
    except Exception as failed:  # such as a GPU's, from which nothing can be read any more
        problem = f"what was trained is not saved: {' '.join(str(failed).split())}"
    if record.sum_over_ranks(float(bool(problem)), training.device):
        return problem or None
    return f"{name} is saved, from which {going_on(training.folder, record.ranks())} goes on"
