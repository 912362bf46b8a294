"""The versions of the installed packages, and one error for packages that do not work together."""

from __future__ import annotations

import contextlib
import platform
import traceback
from collections.abc import Iterator

from upstream_elp.base.errors import ElpError
from upstream_elp.base.packaged import recipes_dir

PACKAGES = ("s3prl-elp", "s3prl", "torch", "torchaudio", "transformers", "huggingface_hub", "numpy")
"""The packages that affect results."""
FAILURES = (ImportError, OSError, RuntimeError, AttributeError)
"""What an import raises if a library is missing or was built against another one."""


def versions(packages: tuple[str, ...] | None = None) -> dict[str, str | None]:
    """Return the versions of Python and of packages (default :data:`PACKAGES`); None if one is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # importing it takes as long as all of `elp --help`

    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages or PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def in_words() -> str:
    """Format all versions as one line, such as ``python 3.11.7, s3prl 0.4.18, torch 2.13.0``."""
    return ", ".join(f"{name} {found or 'missing'}" for name, found in versions().items())


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Raise a failed import of a package within this context as an :class:`ElpError`.

    Raises:
        ElpError: names the failure, the versions, and the command that installs the tested ones.
    """
    try:
        yield
    except FAILURES as error:
        if not _while_importing(error):
            raise
        failure = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise ElpError(f"the installed packages cannot be imported: {failure} ({in_words()}); {_advice()}") from error


def _while_importing(error: Exception) -> bool:
    """Return whether a module's own code was running; tracebacks omit the frames of Python's import system."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ImportError) or any(frame.name == "<module>" for frame in frames)


def _advice() -> str:
    lock = recipes_dir() / "constraints.txt"
    names = " ".join(name for name in PACKAGES if name != "s3prl-elp")
    return f"install the tested versions with `python -m pip install --constraint {lock} {names}`"
