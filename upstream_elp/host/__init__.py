"""S3PRL as the host: mended for the current stack in memory, and extended by our names."""

from upstream_elp import installed

__all__ = ["register", "register_worker"]


def register() -> None:
    """Add our names to S3PRL and adapt it to this stack, see :func:`upstream_elp.host.registry.register`.

    Raises:
        ElpError: the installed packages do not import, or are not those that this package knows.
    """
    with installed.imported():
        from upstream_elp.host import registry

        registry.register()


def register_worker() -> None:
    """Prepare a data-loading process, see :func:`upstream_elp.host.registry.register_worker`."""
    from upstream_elp.host import registry

    registry.register_worker()
