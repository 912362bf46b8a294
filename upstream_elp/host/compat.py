"""Make S3PRL 0.4.18 run with current packages, once per process, without changing anything on disk."""

import threading
from collections.abc import Sequence

from upstream_elp.base.errors import ElpError
from upstream_elp.host.item import Item
from upstream_elp.host.places import s3prl_version
from upstream_elp.host.table import ITEMS

SUPPORTED = "0.4.18"
_STATE: dict[str, str] = {}
_LOCK = threading.Lock()


def install(more: Sequence[Item] = ()) -> None:
    """Apply every item that this process needs, once.

    Args:
        more: additional items from other modules.

    Raises:
        ElpError: if the installed S3PRL is not the supported version, or has already been partly imported.
    """
    with _LOCK:
        missing = [item for item in (*ITEMS, *more) if item.name not in _STATE]
        if missing:
            check_version()
        states = {}
        for item in missing:
            needed = item.needed()
            if needed:
                item.apply()
            states[item.name] = "applied" if needed else "not needed"
        _STATE.update(states)


def check_version() -> str:
    """The version of the S3PRL that will be imported.

    Raises:
        ElpError: if it is missing or not the supported version.
    """
    found = s3prl_version()
    if found != SUPPORTED:
        raise ElpError(f"s3prl {found} is not supported; install s3prl=={SUPPORTED}")
    return found


def report(more: Sequence[Item] = ()) -> list[dict[str, str]]:
    """One row per item: name, state (applied, not needed, not installed), why, what was found here, until."""
    return [
        {
            "name": item.name,
            "state": _STATE.get(item.name, "not installed"),
            "why": item.why,
            "found": item.found(),
            "until": item.until,
        }
        for item in (*ITEMS, *more)
    ]
