"""ELP adapters for S3PRL's self-supervised speech models.

Importing this package has no side effects and does not import s3prl; :func:`register` adds the names to S3PRL.
"""

from upstream_elp.errors import ElpError

__version__ = "0.1.0"
__all__ = ["ElpError", "__version__", "register"]


def register() -> None:
    """Add our upstreams, downstreams and optimizers to S3PRL, in this process, once.

    Raises:
        ElpError: if S3PRL already has one of our names from somewhere else, or is not a version we support.
    """
    from upstream_elp.host import register as install

    install()
