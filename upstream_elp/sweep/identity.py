"""The identity of a run: the hash of its resolved configuration, data and backbone.

Where files are, on which device a run computes, and with how many workers and caches do not matter.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from downstream_heads.stock import STOCK
from upstream_elp.backbones.family import is_remote
from upstream_elp.base.files import sha256_of
from upstream_elp.sweep.choices import Backbone

FORMAT = 2
DESCRIBING = ("name", "description", "source")
"""Keys of an adapter's configuration that change nothing."""
WITHOUT_EFFECT = {
    "runner": ("cache", "cache_gb", "max_keep", "trackers"),
    "datarc": (
        "root", "file_path", "libri_root", "speech_commands_root", "speech_commands_test_root", "num_workers", "n_jobs",
        "pre_load",
    ),
    "corpus": ("num_workers",),
    "loaderrc": ("num_workers",),
}  # fmt: skip
"""Keys that results do not depend on: corpora are compared by their files, and cached features are exact."""
FILES = ("meta_data", "trials", "test_meta_data", "bucket_file", "dict_path")
"""Keys of ``datarc`` that name files or folders, of which the content counts."""


def identity(
    *,
    task: str,
    fold: str | None,
    seed: int,
    upstream: str | None,
    adapter: Mapping[str, Any] | None,
    backbone: str | None,
    data: Any,
    config: Mapping[str, Any],
    processes: int = 1,
) -> str:
    """The sha256 of everything that a run's results depend on.

    Args:
        task: full name.
        fold: ``-v``.
        seed: ``--seed``.
        upstream: one of S3PRL's own upstreams; None for an adapter.
        adapter: the whole configuration of the adapter.
        backbone: what :func:`backbone_content` returned.
        data: the fingerprints of the splits.
        config: the whole configuration of the task.
        processes: how many train together, each with batches of the configured size.
    """
    described = {
        "format": FORMAT,
        "task": task,
        "fold": fold,
        "seed": seed,
        "upstream": upstream,
        "adapter": None if adapter is None else {k: v for k, v in adapter.items() if k not in DESCRIBING},
        "backbone": backbone,
        "data": data,
        "config": effective(config, places=STOCK[task].places if task in STOCK else ()),
        "processes": processes,
    }
    return digest(described)


def digest(value: Any) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()


def effective(config: Mapping[str, Any], places: Iterable[str] = ()) -> dict[str, Any]:
    """A task configuration without what results do not depend on, and with the content of files for their paths.

    Args:
        config: the whole configuration.
        places: keys of ``downstream_expert`` that name data whose fingerprints are known.
    """
    found = copy.deepcopy(dict(config))
    expert = found.get("downstream_expert") or {}
    for name, keys in WITHOUT_EFFECT.items():
        block = (found if name == "runner" else expert).get(name) or {}
        for key in keys:
            block.pop(key, None)
    for place in places:
        name, _, key = place.partition(".")
        (expert.get(name) or {}).pop(key, None)
    datarc = expert.get("datarc") or {}
    for key in FILES:
        if isinstance(datarc.get(key), str):
            datarc[key] = content_of(datarc[key])
    return found


def backbone_content(backbone: Backbone) -> str:
    """What identifies a backbone: its content on disk, or else its name."""
    if backbone.place is None:
        return backbone.upstream
    return backbone.place if is_remote(backbone.place) else content_of(backbone.place)


def content_of(place: str) -> str:
    """The sha256 of a file, or of the names and hashes of all files in a folder; a missing one is only its name."""
    path = Path(place)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        sums = [(file.relative_to(path).as_posix(), sha256_of(file)) for file in files]
        return digest(sums)
    return sha256_of(path) if path.is_file() else place


def _plain(value: Any) -> Any:
    """Values that YAML writes in several ways, in one: ``240.0`` is ``240``, and a tuple is a list."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
