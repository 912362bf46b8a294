"""S3PRL's checkpoints in an experiment folder."""

from pathlib import Path


def states(folder: Path) -> list[Path]:
    """The ``states-N.ckpt`` of a folder, sorted by step."""
    found = [path for path in folder.glob("states-*.ckpt") if path.stem.split("-")[-1].isdecimal() and path.is_file()]
    return sorted(found, key=lambda path: int(path.stem.split("-")[-1]))
