"""A fingerprint of the names and sizes of a run's files, to distinguish one set of data from another.

The list comes from the data sets that a task has built (``files()`` of the head and of its data sets). It contains only
the audio of the run's splits: no other files of the corpus, and no transcripts, labels or trial lists. Contents are not
read; ``elp prepare --decode`` does that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from upstream_elp.audio.segments import file_of
from upstream_elp.backbones.structure import unwrapped


def data_fingerprint(files: Iterable[Path]) -> dict[str, Any]:
    """Hash the names and sizes of files, independently of their order and of where the corpus is.

    Every folder is listed once. Names are relative to the deepest folder that contains all files.

    Args:
        files: the files; duplicates count once.

    Returns:
        ``files`` (how many), ``missing`` (how many of them do not exist), ``bytes`` (the sum of their sizes) and
        ``sha256``.
    """
    paths = sorted({file_of(path) for path in files})
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        folders.setdefault(folder, []).append(name)
    root = os.path.commonpath(list(folders)) if folders else ""
    digest, total, missing = hashlib.sha256(), 0, 0
    for folder in sorted(folders):
        sizes = _sizes(folder, set(folders[folder]))
        below = os.path.relpath(folder, root)
        for name in folders[folder]:
            size = sizes.get(name)  # None for a missing file, which --skip-bad-files allows
            missing += size is None
            total += size or 0
            digest.update(f"{below}/{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return {"files": len(paths), "missing": missing, "bytes": total, "sha256": digest.hexdigest()}


def task_fingerprint(head: nn.Module) -> dict[str, dict[str, Any]]:
    """The fingerprint of each split that a task has built; empty for S3PRL's own tasks, which do not list their files.

    Args:
        head: the downstream expert, possibly wrapped for several processes.
    """
    head = unwrapped(head)
    splits = head.files() if hasattr(head, "files") else {}
    return {split: data_fingerprint(files) for split, files in splits.items()}


def _sizes(folder: str, names: set[str]) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.name in names}
    except OSError:
        return {}
