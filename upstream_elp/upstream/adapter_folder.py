"""Adapter folders: ``adapter.safetensors`` and ``adapter_config.yaml``, small and safe to load.

The folder contains every tensor that differs from the plain backbone, the configuration, and the backbone's hub name
and fingerprint, optionally with the head that was trained with the adapter (:mod:`upstream_elp.upstream.head_folder`).
It contains neither machine paths nor code, and reading it does not run any code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from upstream_elp.adapters.config import AdapterConfig, parse_config
from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.files import whole_folder
from upstream_elp.base.tensor_files import check_sha256, read_tensors, write_tensors
from upstream_elp.base.version import __version__
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.upstream.head_folder import TrainedHead, write_head

FORMAT_VERSION = 1
CONFIG_FILE = "adapter_config.yaml"
TENSOR_FILE = "adapter.safetensors"
HUB_NAME = re.compile(r"\w+|hf:(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""The names that a folder may record for its backbone, so that none of them can be a path or a URL."""


@dataclass(frozen=True)
class AdapterFolder:
    """The content of an adapter folder."""

    config: AdapterConfig
    tensors: dict[str, Tensor]
    """Tensors by canonical name."""
    backbone: str | None
    """Hub name of the backbone; None for a local checkpoint."""
    family: str
    fingerprint: Fingerprint


def is_adapter_folder(path: str | os.PathLike) -> bool:
    """Return whether ``path`` is a folder with an adapter configuration."""
    return (Path(path) / CONFIG_FILE).is_file()


def write_adapter_folder(folder: str | os.PathLike, content: AdapterFolder, head: TrainedHead | None = None) -> Path:
    """Write an adapter folder; it appears whole or not at all.

    Args:
        folder: a path that does not exist, or an empty folder.
        content: the adapter; it does not have tensors if its preset trains nothing in the backbone.
        head: the head to write next to the adapter, if any.

    Raises:
        ElpError: ``folder`` exists and is not empty, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ElpError(f"{folder} exists and is not an empty folder; name another place for the adapter")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as temporary:
            sha256 = write_tensors(temporary / TENSOR_FILE, content.tensors)
            described = _describe(content, tensors_sha256=sha256)
            (temporary / CONFIG_FILE).write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
            if head is not None:
                write_head(temporary, head, adapter_sha256=sha256)
    except OSError as error:
        raise ElpError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


def _describe(content: AdapterFolder, *, tensors_sha256: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "made_with": f"s3prl-elp {__version__}",
        "backbone": {
            "name": content.backbone,
            "family": content.family,
            "fingerprint": content.fingerprint.to_dict(),
        },
        "adapter": content.config.to_dict(),
        "tensors_sha256": tensors_sha256,
    }


def read_adapter_folder(folder: str | os.PathLike) -> AdapterFolder:
    """Read an adapter folder without running any of its content.

    Raises:
        ElpError: a missing, truncated, damaged or unreadable file, another format version, or an unknown key.
    """
    folder = Path(folder)
    raw = _read_config(folder / CONFIG_FILE)
    tensors = read_tensors(folder / TENSOR_FILE, raw["tensors_sha256"], said_in=CONFIG_FILE)
    backbone = raw["backbone"]
    try:
        fingerprint = Fingerprint.from_dict(backbone["fingerprint"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ElpError(f"{folder / CONFIG_FILE}: backbone.fingerprint.sketch must be a list of numbers") from error
    return AdapterFolder(
        config=parse_config(raw["adapter"], where=str(folder / CONFIG_FILE)),
        tensors=tensors,
        backbone=backbone.get("name"),
        family=backbone["family"],
        fingerprint=fingerprint,
    )


def adapter_sha256(folder: str | os.PathLike) -> str:
    """Return the sha256 of a folder's tensor file, after checking that it is the one that the configuration states.

    Raises:
        ElpError: a missing, damaged or changed tensor file, or an unreadable configuration.
    """
    folder = Path(folder)
    stated = _read_config(folder / CONFIG_FILE)["tensors_sha256"]
    check_sha256(folder / TENSOR_FILE, stated, said_in=CONFIG_FILE)
    return stated


def _read_config(path: Path) -> dict[str, Any]:
    raw = read_yaml(path, by_hand=False)
    if not isinstance(raw, Mapping):
        raise ElpError(f"{path} must contain a mapping; export the adapter again")
    known = ["format_version", "made_with", "backbone", "adapter", "tensors_sha256"]
    for key in raw:
        if key not in known:
            raise ElpError(f"{path}: unknown key {shown(key)}; the valid keys are: {', '.join(known)}")
    if raw.get("format_version") != FORMAT_VERSION:
        version = shown(raw.get("format_version"))
        raise ElpError(
            f"{path}: format_version must be {FORMAT_VERSION}, but is {version}; use the s3prl-elp that wrote it"
        )
    backbone = raw.get("backbone")
    if not isinstance(backbone, Mapping) or not {"family", "fingerprint"} <= set(backbone):
        raise ElpError(f"{path}: the key 'backbone' must contain name, family and fingerprint")
    name = backbone.get("name")
    if not isinstance(name, str | None) or not isinstance(backbone["family"], str):
        raise ElpError(f"{path}: backbone.name and backbone.family must be strings")
    if name is not None and not HUB_NAME.fullmatch(name):
        raise ElpError(f"{path}: backbone.name must be a name on S3PRL's or Hugging Face's hub, but is {shown(name)}")
    fingerprint = backbone["fingerprint"]
    if not isinstance(fingerprint, Mapping) or set(fingerprint) != {"sha256", "structure", "sketch"}:
        raise ElpError(f"{path}: the key 'backbone.fingerprint' must contain sha256, structure and sketch")
    if not isinstance(raw.get("adapter"), Mapping):
        raise ElpError(f"{path}: the key 'adapter' must contain the adapter configuration")
    if not isinstance(raw.get("tensors_sha256"), str):
        raise ElpError(f"{path}: the key 'tensors_sha256' must be the sha256 of {TENSOR_FILE}")
    return dict(raw)
