"""Files that are either absent or complete, and the place for caches."""

import hashlib
import json
from typing import Any

from upstream_elp.base.files import append_line, cache_dir, write_text

__all__ = ["append_line", "cache_dir", "digest", "write_text"]


def digest(*parts: Any) -> str:
    """A short name for a cache entry from whatever it depends on (anything that ``json`` or ``str`` can express)."""
    text = json.dumps(parts, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
