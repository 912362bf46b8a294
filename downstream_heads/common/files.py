"""Files that are either absent or complete, and the location of caches."""

import hashlib
import json
from typing import Any

from upstream_elp.base.files import append_line, cache_dir, write_text

__all__ = ["append_line", "cache_dir", "digest", "write_text"]


def digest(*parts: Any) -> str:
    """Return a short name for a cache entry, made from all that it depends on (values for ``json`` or ``str``)."""
    text = json.dumps(parts, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
