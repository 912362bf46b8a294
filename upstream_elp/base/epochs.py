"""Lengths of a training that are stated in epochs."""

import re
from typing import Any

LAST = "last"
"""The value of ``runner.eval_step`` for an evaluation after the last step only."""
_EPOCHS = re.compile(r"([1-9][0-9]*) epochs?")


def epochs_of(value: Any) -> int | None:
    """Return 6 for ``6 epochs``, None for anything else."""
    found = _EPOCHS.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found else None
