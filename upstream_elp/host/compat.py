"""Makes S3PRL 0.4.18 run on today's stack, once per process, with nothing changed on disk."""

import threading

from upstream_elp.errors import ElpError
from upstream_elp.host.places import s3prl_version
from upstream_elp.host.table import ITEMS

SUPPORTED = "0.4.18"
_STATE: dict[str, str] = {}
_LOCK = threading.Lock()


def install() -> None:
    """Apply every item that this process needs, once.

    Raises:
        ElpError: if the installed S3PRL is not the supported version, or was partly imported before.
    """
    with _LOCK:
        if _STATE:
            return
        check_version()
        states = {}
        for item in ITEMS:
            needed = item.needed()
            if needed:
                item.apply()
            states[item.name] = "applied" if needed else "not needed"
        _STATE.update(states)


def check_version() -> str:
    """The version of the S3PRL that will be imported.

    Raises:
        ElpError: if it is missing, or not the one that this package knows.
    """
    found = s3prl_version()
    if found != SUPPORTED:
        raise ElpError(f"s3prl {found} is not supported; install s3prl=={SUPPORTED}")
    return found


def report() -> list[dict[str, str]]:
    """One row per item: name, state (applied, not needed, not installed), why, what was found here, until."""
    return [
        {
            "name": item.name,
            "state": _STATE.get(item.name, "not installed"),
            "why": item.why,
            "found": item.found(),
            "until": item.until,
        }
        for item in ITEMS
    ]
