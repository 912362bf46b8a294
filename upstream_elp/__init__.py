"""ELP adapters for self-supervised speech models, in S3PRL and in your own training loop.

Importing this package has no side effects and imports neither torch nor s3prl; :func:`register` adds our names to
S3PRL.
"""

from upstream_elp.api import adapt, find_adapted, load, load_adapters, register
from upstream_elp.base.errors import ElpError
from upstream_elp.base.version import __version__

__all__ = ["ElpError", "__version__", "adapt", "find_adapted", "load", "load_adapters", "register"]
