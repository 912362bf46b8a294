"""ELP adapters for S3PRL's self-supervised speech models.

Importing this package has no side effects and does not import s3prl; :func:`register` adds the names to S3PRL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upstream_elp.errors import ElpError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from upstream_elp.switching import AdapterSwitch

__version__ = "0.1.0"
__all__ = ["ElpError", "__version__", "load_adapters", "register"]


def register() -> None:
    """Add our upstreams, downstreams and optimizers to S3PRL, in this process, once.

    Raises:
        ElpError: if S3PRL already has one of our names from somewhere else, or is not a version we support.
    """
    from upstream_elp.host import register as install

    install()


def load_adapters(
    folders: Mapping[str, str | os.PathLike], *, backbone: str | os.PathLike | None = None, refresh: bool = False
) -> AdapterSwitch:
    """Load one backbone and several trained adapters, between which the result switches with ``use``.

    Args:
        folders: name of your choice to adapter folder; the first one is in place at the start.
        backbone: the backbone's S3PRL hub name, its checkpoint (path or URL), or a folder or ``hf:ORGANISATION/NAME``
            in Hugging Face's format; default ``$ELP_BACKBONE``, then the hub name that the folders record.
        refresh: download again what is cached.

    Raises:
        ElpError: no adapter folder there, no backbone named, or an adapter that was trained on another backbone.
    """
    from upstream_elp.switching import load_adapters as load

    return load(folders, backbone=backbone, refresh=refresh)
