"""Import torchaudio without its compiled extension if that does not load.

The extension ties a torchaudio to one torch, and to one build of it: that of torchaudio 2.11.1 loads neither with torch
2.11.0 nor with a CPU build of torch 2.13. S3PRL does not need it: transforms, functional and compliance.kaldi are
written in Python, and :mod:`upstream_elp.host.sound` reads files.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from upstream_elp.base.errors import ElpError
from upstream_elp.base.installed import FAILURES

_NAME = "torchaudio._extension"
_found: list[str] = []


def does_not_load() -> bool:
    """Whether importing torchaudio fails.

    Raises:
        ElpError: torchaudio is missing, or its import was started elsewhere and is incomplete.
    """
    if "torchaudio" in sys.modules:
        if not hasattr(sys.modules["torchaudio"], "functional"):
            raise ElpError(
                "torchaudio was imported before upstream_elp.register() and is incomplete; call "
                "upstream_elp.register() before anything imports torchaudio"
            )
        return False
    if importlib.util.find_spec("torchaudio") is None:
        raise ElpError("torchaudio is not installed; install torchaudio 2.8 to 2.11")
    try:
        importlib.import_module("torchaudio")
    except FAILURES as error:
        _found[:] = [" ".join(f"{type(error).__name__}: {error}".split())]
        return True
    return False


def reason() -> str:
    """The error of torchaudio's own import in this process; empty if it did not fail."""
    return _found[0] if _found else ""


def stand_in() -> None:
    """Import torchaudio with a stand-in for the extension that reports it as unavailable.

    Raises:
        ElpError: torchaudio cannot be imported without its extension either.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]  # what the failed import left behind
    sys.modules[_NAME] = _module()
    try:
        importlib.import_module("torchaudio")
    except FAILURES as error:
        del sys.modules[_NAME]
        version = importlib.metadata.version
        raise ElpError(
            f"torchaudio {version('torchaudio')} cannot be imported with torch {version('torch')}: {reason()}, and "
            f"without its compiled extension {type(error).__name__}: {error}; install torchaudio 2.8 to 2.11"
        ) from error


def _module() -> ModuleType:
    module = ModuleType(_NAME, "Stands in for torchaudio's compiled extension, which does not load here.")
    module.__path__ = []
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module._IS_RIR_AVAILABLE = False
    module._check_cuda_version = _nothing
    module._load_lib = _load_nothing
    module.lazy_import_sox_ext = _NoSox
    module.fail_if_no_align = module.fail_if_no_rir = _refusing
    return module


def _nothing() -> None:
    """Skip the comparison of CUDA versions."""


def _load_nothing(library: str) -> bool:
    """Report that no library was loaded."""
    return False


def _refusing(function: Callable) -> Callable:
    """Decorate a function that needs the extension, so that it raises when called."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"torchaudio's {function.__name__} needs its compiled extension, which does not load here")

    return refuse


class _NoSox:
    """What torchaudio 2.8 asks whether SoX is available."""

    def is_available(self) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: torchaudio's SoX is part of its compiled extension, which does not load here")
