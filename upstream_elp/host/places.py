"""Find S3PRL and its tasks without importing it."""

import importlib.util
import sys
from pathlib import Path

from upstream_elp.base.errors import ElpError


def s3prl_folder() -> Path:
    """The folder of the s3prl package that ``import s3prl`` uses.

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
    """S3PRL's own version number (from version.txt, as for its ``__version__``)."""
    path = s3prl_folder() / "version.txt"
    return path.read_text().strip() if path.is_file() else "of unknown version"


def stock_tasks() -> list[str]:
    """The names of S3PRL's downstream tasks."""
    return sorted(path.parent.name for path in (s3prl_folder() / "downstream").glob("*/expert.py"))
