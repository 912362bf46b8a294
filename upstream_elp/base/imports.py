"""Import heavy packages without garbage collections."""

import contextlib
import gc
import sys
from collections.abc import Iterator

HEAVY = "torch"


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import within this context without collecting garbage; what is there at its end is never searched for garbage.

    An import makes many objects that stay. Python would search all of them again and again while their number grows,
    later in every full collection, and several times when it exits, which together takes about a second. Does nothing
    if torch is already imported, as in a program that calls a command as a function: its own garbage must be freed.
    """
    if HEAVY in sys.modules:
        yield
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        gc.freeze()
