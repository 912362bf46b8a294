"""Processes that end with the one that has started them, even if that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "ELP_SWEEP_PARENT"
"""Variable with the process id of the parent."""
_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies; elsewhere, runs go on to their end."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call
        sys.exit(128 + signal.SIGTERM)
