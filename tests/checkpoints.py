"""The content of training checkpoints."""

from pathlib import Path
from typing import Any

from upstream_elp.experiment.checkpoint import load_checkpoint


def load_states(path: Path) -> dict[str, Any]:
    """The entries of a training checkpoint by the keys of its file."""
    return load_checkpoint(path).to_mapping()
