"""The main memory of this process."""

import resource
import sys


def peak_memory() -> int:
    """Return the most main memory in bytes that this process has used so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
