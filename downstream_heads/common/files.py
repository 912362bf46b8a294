"""Files that are either absent or complete, and the place for caches."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import append_line, cache_dir, whole_file

__all__ = ["append_line", "cache_dir", "digest", "write_text"]


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        ElpError: the folder cannot be written to.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(whole_file(path, encoding="utf-8", newline=""))
        except OSError as error:
            raise ElpError(f"cannot write {path}: {error.strerror or error}; choose a writable folder") from error
        file.write(text)


def digest(*parts: Any) -> str:
    """A short name for a cache entry from whatever it depends on (anything that ``json`` or ``str`` can express)."""
    text = json.dumps(parts, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
