"""Save the steps of a training before an error, such as a bad file, ends it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from upstream_elp.base.errors import ElpError, sentence_of
from upstream_elp.experiment.existing import going_on
from upstream_elp.training import record
from upstream_elp.training.collectives import gathered, ranks, sum_over_ranks
from upstream_elp.training.run_state import RunState
from upstream_elp.training.stop import EndedElsewhere, StopRequest


@contextlib.contextmanager
def kept(state: RunState, request: StopRequest) -> Iterator[None]:
    """Save the steps that were made before an exception ends the block.

    Raises:
        ElpError: the error that ended it, with what was saved and how to resume; other exceptions are re-raised as is.
    """
    try:
        yield
    except Exception as error:
        saved = _saved(state, request, error)
        if saved is None:
            raise
        if not isinstance(error, ElpError):
            state.bar.write(f"elp: {saved}", file=sys.stderr)
            raise
        raise ElpError(f"{sentence_of(error)}; {saved}") from error


def _saved(state: RunState, request: StopRequest, error: Exception) -> str | None:
    """Save what all ranks trained before an error, and say so; None if there is nothing to save or no way back."""
    mark = state.mark
    if mark is None or (state.in_step and ranks() > 1):  # the other ranks wait for this one's gradients
        return None
    if not isinstance(error, EndedElsewhere):
        request.agreed(state.device, failed=True)
    state.position.back(mark.position)
    step = state.position.step
    if step == state.began:
        return None
    name, problem = f"states-{step}.ckpt", ""
    try:
        record.save(state, [name] if state.saved != step else [], random=gathered(mark.random))
    except Exception as failed:  # such as a GPU error, after which nothing can be read from it
        problem = f"the steps since the last checkpoint are not saved: {' '.join(str(failed).split())}"
    if sum_over_ranks(float(bool(problem)), state.device):
        return problem or None
    return f"{name} is saved; resume with {going_on(state.folder, ranks())}"
