"""Failed downloads, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from upstream_elp.base.errors import ElpError


def failed_download(error: OSError) -> ElpError | None:
    """The sentence for an error of requests or urllib, None for anything else."""
    address = getattr(getattr(error, "request", None), "url", None)
    if not address:
        return None
    answer = getattr(error, "response", None)
    reason = "no connection" if answer is None else f"the server answers {answer.status_code} {answer.reason}"
    return ElpError(
        f"cannot download {address}: {reason}; run `elp fetch NAME` on a machine with a network first, or give a local "
        "copy with -k (of a trained adapter's backbone with --backbone)"
    )


@contextmanager
def downloading() -> Iterator[None]:
    """Turn a failed download into its sentence."""
    try:
        yield
    except OSError as error:
        if (told := failed_download(error)) is None:
            raise
        raise told from error
