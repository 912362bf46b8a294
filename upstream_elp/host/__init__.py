"""S3PRL as the host: mended for the current stack in memory, and extended by our names."""

__all__ = ["register", "register_worker"]


def register() -> None:
    """Add our names to S3PRL and mend it for this stack, see :func:`upstream_elp.host.registry.register`."""
    from upstream_elp.host import registry

    registry.register()


def register_worker() -> None:
    """Prepare a data-loading process, see :func:`upstream_elp.host.registry.register_worker`."""
    from upstream_elp.host import registry

    registry.register_worker()
