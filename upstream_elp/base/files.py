"""Files that are either absent or complete, and the location of caches."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, mode: str = "w", **options: Any) -> Iterator[IO]:
    """Open a temporary file that replaces ``path`` in one step, or is removed if the block fails.

    Args:
        path: the file; its folder must exist.
        mode: how to open it, ``w`` or ``wb``.
        **options: options of ``open``, such as ``encoding``.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **options) as file:
            yield file
        Path(temporary).chmod(0o666 & ~umask())  # mkstemp makes 0600
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` in one step, or is removed if the block fails.

    Args:
        path: a folder that does not exist or is empty; its parent must exist.
    """
    path = Path(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~umask())  # mkdtemp makes 0700
        for file in temporary.rglob("*"):
            file.chmod((0o777 if file.is_dir() else 0o666) & ~umask())
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a text file in one step: a reader sees either the old file or the new one.

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
    return path


def plain(value: Any) -> Any:
    """Convert a value for JSON: numbers that are not finite become null, and unknown types become text."""
    if isinstance(value, Mapping | Namespace):
        items = vars(value) if isinstance(value, Namespace) else value
        return {str(key): plain(item) for key, item in items.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write_json(path: str | os.PathLike, value: object) -> Path:
    """Write JSON as :func:`write_text` does."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def check_writable(path: Path, *, flag: str) -> None:
    """Check, before anything is computed, that the result can be written.

    Raises:
        ElpError: names the flag and the reason.
    """
    if path.is_dir():
        raise ElpError(f"{flag} {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ElpError(f"{flag} {path} cannot be written: the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ElpError(f"{flag} {path} cannot be written: the folder {path.parent} is not writable; choose another one")


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


def sha256_of(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return sha256_of_rest(file)


def sha256_of_rest(file: IO[bytes]) -> str:
    """Return the sha256 of the rest of an open file, from its current position."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def cache_dir() -> Path:
    """The folder for derived tables: ``$ELP_CACHE``, else ``$XDG_CACHE_HOME/s3prl-elp`` or ``~/.cache/s3prl-elp``."""
    if own := settings.current().cache:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "s3prl-elp"


def umask() -> int:
    """Return the user's file mode creation mask, which temporary files and folders ignore."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
