"""S3PRL as the host, repaired for the current stack in memory."""

from upstream_elp.base import installed

__all__ = ["install"]


def install() -> None:
    """Make S3PRL run on this stack, in this process, once; see :mod:`upstream_elp.host.compat`.

    Raises:
        ElpError: the installed packages do not import, or are not those that this package knows.
    """
    with installed.imported():
        from upstream_elp.host import compat

        compat.install()
