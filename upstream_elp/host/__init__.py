"""S3PRL as the host, patched in memory for current packages."""

from upstream_elp.base import installed

__all__ = ["install"]


def install() -> None:
    """Make S3PRL run with current packages, once per process; see :mod:`upstream_elp.host.compat`.

    Raises:
        ElpError: the installed packages cannot be imported or are not supported.
    """
    with installed.imported():
        from upstream_elp.host import compat

        compat.install()
