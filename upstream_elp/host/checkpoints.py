"""S3PRL's checkpoints in an experiment folder."""

from pathlib import Path


def best_names(split: str) -> tuple[str, str]:
    """The names that the best checkpoint of a split may have: S3PRL's usual one, and the one of its diarization."""
    return f"{split}-best.ckpt", f"best-states-{split}.ckpt"


def best(folder: Path) -> list[Path]:
    """The best checkpoints of a folder by the splits that chose them: ``dev-best.ckpt``, or ``best-states-dev.ckpt``.

    The second form is that of S3PRL's diarization, separation and enhancement.
    """
    return sorted(path for path in folder.glob("*.ckpt") if is_best(path.name))


def is_best(name: str) -> bool:
    """Whether a file's name is that of a best checkpoint."""
    return name.endswith("-best.ckpt") or (name.startswith("best-states-") and name.endswith(".ckpt"))


def states(folder: Path) -> list[Path]:
    """The ``states-N.ckpt`` of a folder, sorted by step."""
    found = [path for path in folder.glob("states-*.ckpt") if path.stem.split("-")[-1].isdecimal() and path.is_file()]
    return sorted(found, key=lambda path: int(path.stem.split("-")[-1]))
