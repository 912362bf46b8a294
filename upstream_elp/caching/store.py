"""A folder of tensors by key that several processes fill at the same time and that no kill damages.

Tensors are collected in memory and written as shards: safetensors files, each complete or absent, never changed
afterwards. Reading maps them into memory. Two processes that compute the same utterance write it twice, which does no
harm. What was not yet written when a process was killed is computed again.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file, write_json

logger = logging.getLogger(__name__)
ENDING = ".safetensors"
DESCRIPTION = "description.json"
SHARD = 64 * 2**20
"""Bytes that are collected before a shard is written."""
SECONDS = 60.0
"""Seconds after which a smaller shard is written, so that a kill loses little."""
ADVICE = "raise runner.cache_gb, set runner.cache_dtype: fp16, or remove other features with `elp cache bound`"
"""What to do when a store is full."""
FREE = 2**30
"""Bytes of the disk that stay free."""


class Shards:
    """The cached tensors of one kind, to read.

    Args:
        folder: the folder of this kind, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, Any] = {}
        self._place: dict[str, Any] = {}
        self._listed = -1
        self._refresh()

    def __len__(self) -> int:
        return len(self._place)

    def get(self, key: str) -> Tensor | None:
        """Return the tensor of a key, or None. Shards of other processes are seen when a key is missing."""
        if key not in self._place:
            self._refresh()
        shard = self._place.get(key)
        return None if shard is None else shard.get_tensor(key)

    def _refresh(self) -> None:
        """Open shards that other processes have written since the last look."""
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed == self._listed:
                return
            self._listed = changed
            paths = [path for path in self.folder.glob(f"*{ENDING}") if path.name not in self._shards]
        except FileNotFoundError:  # `elp cache clear` has removed it
            return
        for path in paths:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            shard = safe_open(path, framework="pt")
            keys = list(shard.keys())
        except FileNotFoundError:
            return
        except (SafetensorError, OSError) as error:  # its features are computed again
            reason = " ".join(str(error).split())
            logger.warning("the cache file %s is damaged (%s) and is not used; delete it", path, reason)
            self._shards[path.name] = None
            return
        self._shards[path.name] = shard
        self._place.update(dict.fromkeys(keys, shard))


class Store(Shards):
    """The cached tensors of one kind, to read and to fill.

    Args:
        folder: the folder of this kind, which is created; folders of other kinds are next to it.
        limit: bytes that all kinds may use together.
        description: what the tensors are, written next to them for ``elp cache``.

    Raises:
        ElpError: the folder cannot be created.
    """

    def __init__(self, folder: Path, *, limit: int, description: Mapping[str, Any]) -> None:
        self.limit = limit
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / DESCRIPTION).is_file():
                write_json(folder / DESCRIPTION, dict(description))
            os.utime(folder / DESCRIPTION)  # when it was last used
        except OSError as error:
            raise ElpError(
                f"the cache {folder} cannot be created: {error.strerror or error}; set ELP_CACHE to a writable folder"
            ) from error
        self.full = ""
        """Why nothing more is kept, as a sentence; empty while there is room."""
        self._new: dict[str, Tensor] = {}
        self._bytes = 0
        self._written = time.monotonic()
        super().__init__(folder)

    def __len__(self) -> int:
        return super().__len__() + len(self._new)

    def get(self, key: str) -> Tensor | None:
        """Return the tensor of a key, or None, also if it was not written yet."""
        found = self._new.get(key)
        return super().get(key) if found is None else found

    def put(self, key: str, tensor: Tensor) -> None:
        """Keep a tensor on the CPU, unless the limit is reached."""
        if self.full:
            return
        self._new[key] = tensor
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= SHARD or time.monotonic() - self._written > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. If there is no room, it is dropped, and :attr:`full` says why."""
        new, self._new = self._new, {}
        size, self._bytes = self._bytes, 0
        self._written = time.monotonic()
        if not new or self.full:
            return
        self.full = self._no_room(size)
        if self.full:
            return
        path = self.folder / f"{uuid.uuid4().hex}{ENDING}"
        try:
            with whole_file(path, "wb") as file:
                file.write(save(new))
        except OSError as error:
            self.full = f"the cache {self.folder} cannot be written: {error.strerror or error}"
            return
        self._open(path)

    def _no_room(self, size: int) -> str:
        top = self.folder.parent
        if (used := bytes_in(top)) + size > self.limit:
            return f"the cache {top} has {used / 1e9:.1f} GB, and its limit is {self.limit / 1e9:.1f} GB"
        if shutil.disk_usage(top).free < size + FREE:
            return f"the disk of the cache {top} has less than {FREE / 1e9:.1f} GB left"
        return ""


def bytes_in(folder: Path) -> int:
    """Return the size of the shards below a folder, in bytes."""
    total = 0
    for path in folder.rglob(f"*{ENDING}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def stored_as(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor on the CPU in the type in which it is kept.

    Raises:
        ElpError: a value is too large for float16.
    """
    kept = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
    if dtype == torch.float16 and not bool(torch.isfinite(kept).all()):
        raise ElpError("runner.cache_dtype is fp16, but a feature is larger than 65504; choose bf16 or fp32")
    return kept
