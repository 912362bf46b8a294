"""Where S3PRL and our task folders are, without importing S3PRL."""

import importlib.util
import sys
from collections.abc import Container
from pathlib import Path

from upstream_elp.base.errors import ElpError

OUR_TASKS = "downstream_heads"
PREFIX = "elp_"
"""What the name of each of our tasks begins with."""


def s3prl_folder() -> Path:
    """The folder of the s3prl package that ``import s3prl`` takes.

    Raises:
        ElpError: if it is not installed.
    """
    if "s3prl" in sys.modules:
        return Path(next(iter(sys.modules["s3prl"].__path__)))
    spec = importlib.util.find_spec("s3prl")
    if spec is None or not spec.submodule_search_locations:
        raise ElpError("s3prl is not installed; install s3prl==0.4.18")
    return Path(next(iter(spec.submodule_search_locations)))


def s3prl_version() -> str:
    """The version that S3PRL states of itself (version.txt, which its ``__version__`` is read from)."""
    path = s3prl_folder() / "version.txt"
    return path.read_text().strip() if path.is_file() else "of unknown version"


def our_tasks_folder() -> Path:
    """The folder of our downstream tasks."""
    spec = importlib.util.find_spec(OUR_TASKS)
    return Path(next(iter(spec.submodule_search_locations)))


def our_tasks() -> list[str]:
    """The names of our downstream tasks."""
    return _experts(our_tasks_folder())


def task_name(name: str, *, others: Container[str] = ()) -> str:
    """The whole name of a task of ours, which may be given without ``elp_``; any other name as it is.

    Args:
        name: what a user wrote.
        others: names that mean something else there: ``-d asr`` of ``elp run`` is S3PRL's own task.
    """
    whole = f"{PREFIX}{name}"
    return whole if name not in others and whole in our_tasks() else name


def stock_tasks() -> list[str]:
    """The names of S3PRL's downstream tasks."""
    return _experts(s3prl_folder() / "downstream")


def _experts(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/expert.py"))
