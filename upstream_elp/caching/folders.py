"""The folders of cached features: what they hold, and how to make them smaller."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from upstream_elp.base.errors import ElpError
from upstream_elp.caching.store import DESCRIPTION, ENDING, bytes_in


@dataclass(frozen=True)
class Entry:
    """One folder of cached features."""

    folder: Path
    description: dict[str, Any]
    """What its features are, see :func:`upstream_elp.caching.identity.describe`."""
    utterances: int
    damaged: int
    """Files that cannot be read, so that their features will be computed again."""
    size: int
    """In bytes."""
    used: float
    """When a run last used it, in seconds since the epoch."""

    def to_dict(self) -> dict[str, Any]:
        """Return a row for tables and JSON."""
        return {
            "name": self.folder.name,
            "backbone": self.description.get("backbone name") or str(self.description.get("backbone", "?"))[:12],
            "features": self.description.get("place", "?"),
            "type": f"{self.description.get('precision', '?')}, kept {self.description.get('type', '?')}",
            "utterances": self.utterances,
            "damaged": self.damaged,
            "gigabytes": round(self.size / 1e9, 3),
            "last used": datetime.fromtimestamp(self.used).isoformat(timespec="minutes", sep=" "),
        }


def entries(top: Path) -> list[Entry]:
    """Return the folders of features below ``top``, the one used last first."""
    found = [_entry(path.parent) for path in top.glob(f"*/{DESCRIPTION}")] if top.is_dir() else []
    return sorted(found, key=lambda entry: -entry.used)


def _entry(folder: Path) -> Entry:
    keys: set[str] = set()
    damaged = 0
    for path in sorted(folder.glob(f"*{ENDING}")):
        try:
            with safe_open(path, framework="pt") as shard:
                keys.update(shard.keys())
        except (SafetensorError, OSError):
            damaged += 1
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        description = {}
    used = (folder / DESCRIPTION).stat().st_mtime
    return Entry(
        folder, description if isinstance(description, dict) else {}, len(keys), damaged, bytes_in(folder), used
    )


def remove(entry: Entry) -> None:
    """Remove a folder of features; runs that use it compute them again.

    Raises:
        ElpError: it cannot be removed.
    """
    try:
        shutil.rmtree(entry.folder)
    except OSError as error:
        raise ElpError(f"{entry.folder} cannot be removed: {error.strerror or error}") from error


def bound(top: Path, limit: int) -> list[Entry]:
    """Remove the folders used longest ago until the rest fits into ``limit`` bytes; return what was removed."""
    found = entries(top)
    total, removed = sum(entry.size for entry in found), []
    for entry in reversed(found):
        if total <= limit:
            break
        remove(entry)
        removed.append(entry)
        total -= entry.size
    return removed
