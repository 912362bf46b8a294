"""Files that are either absent or complete, and the place for caches."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upstream_elp.errors import ElpError


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        ElpError: the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ElpError(f"cannot write {path}: {error.strerror or error}; choose a writable folder") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes 0600
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def append_line(path: Path | str, line: str) -> None:
    """Append one line with a single write, so that lines of several processes do not mix."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise ElpError(f"cannot write {path}: {error.strerror or error}; choose a writable folder") from error
    try:
        os.write(handle, (line.rstrip("\n") + "\n").encode())
    finally:
        os.close(handle)


def cache_dir() -> Path:
    """The folder for derived tables: ``$ELP_CACHE``, else ``$XDG_CACHE_HOME/s3prl-elp`` or ``~/.cache/s3prl-elp``."""
    own = os.environ.get("ELP_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "s3prl-elp"


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Those of ``paths`` that do not exist; every folder is listed once, which is faster than a look at every file."""
    listed: dict[Path, set[str]] = {}
    missing = []
    for path in paths:
        folder = path.parent
        if folder not in listed:
            listed[folder] = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        if path.name not in listed[folder]:
            missing.append(path)
    return missing


def digest(*parts: Any) -> str:
    """A short name for a cache entry from whatever it depends on (anything that ``json`` or ``str`` can express)."""
    text = json.dumps(parts, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
