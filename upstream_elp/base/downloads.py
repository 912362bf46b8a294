"""Failed downloads, reported in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from upstream_elp.base.errors import ElpError


def failed_download(error: OSError) -> ElpError | None:
    """Return the error to show for a failed request of requests or urllib, None for anything else."""
    address = getattr(getattr(error, "request", None), "url", None)
    if not address:
        return None
    answer = getattr(error, "response", None)
    reason = "no connection" if answer is None else f"the server answered {answer.status_code} {answer.reason}"
    return ElpError(
        f"cannot download {address}: {reason}; run `elp fetch NAME` on a machine with network access first, or pass a "
        "local copy with -k (for the backbone of a trained adapter: with --backbone)"
    )


@contextmanager
def downloading() -> Iterator[None]:
    """Raise a failed download within this context as an :class:`ElpError`."""
    try:
        yield
    except OSError as error:
        if (failure := failed_download(error)) is None:
            raise
        raise failure from error
