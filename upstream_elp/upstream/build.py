"""Build an expert from a hub backbone, a backbone checkpoint or a trained adapter folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from upstream_elp import host
from upstream_elp.adapters.config import load_config
from upstream_elp.audio.front import STANDARD, FrontEnd
from upstream_elp.backbones.architecture import backbone_family
from upstream_elp.backbones.backbone_file import read_backbone, read_folder
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.backbones.family import HUB_PREFIX, HUGGING_FACE
from upstream_elp.backbones.fingerprint import digest
from upstream_elp.backbones.huggingface_files import is_hugging_face_folder
from upstream_elp.base import settings
from upstream_elp.base.downloads import downloading
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapter_folder import AdapterFolder, is_adapter_folder, read_adapter_folder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.transfer import BACKBONE_VARIABLE, load_adapter

FOLDER_ENTRIES = {family.hub_local: name for name, family in FAMILIES.items() if family.format == HUGGING_FACE}
"""Families by the hub entry that takes a folder or hub name in Hugging Face's format with ``-k``."""


def build_upstream(
    name: str | None,
    *,
    ckpt: str | os.PathLike | None = None,
    model_config: str | os.PathLike | Mapping[str, Any] | None = None,
    backbone: str | os.PathLike | None = None,
    refresh: bool = False,
) -> ElpExpert:
    """Load a backbone and put adapters into it.

    Args:
        name: S3PRL hub name of the backbone, or None if ``ckpt`` determines the backbone.
        ckpt: the backbone's checkpoint (path or URL), a folder in Hugging Face's format or ``hf:ORGANISATION/NAME``, or
            a trained adapter folder.
        model_config: adapter preset name, YAML path or mapping; must be None with an adapter folder.
        backbone: for an adapter folder, the backbone's checkpoint (path or URL); by default ``$ELP_BACKBONE``, then the
            hub name that the folder records.
        refresh: whether to download cached files again.

    Raises:
        ElpError: ``ckpt`` cannot be used, the adapter belongs to another backbone, or the self-check failed.
    """
    chosen = settings.current()
    host.install()
    if ckpt is not None and is_adapter_folder(ckpt):
        folder = read_adapter_folder(ckpt)
        if model_config is not None:
            raise ElpError(f"{ckpt} is a trained adapter with its own configuration: remove -g {model_config}")
        location = backbone or chosen.backbone
        stock, hub_name = load_backbone(name or (None if location else folder.backbone), location, refresh, folder)
        known = folder.fingerprint if digest(stock.state_dict()) == folder.fingerprint.sha256 else None
        expert = ElpExpert(stock, folder.config, name=hub_name or folder.backbone, check=chosen.self_check, known=known)
        load_adapter(expert, folder, where=str(ckpt))
        return expert
    if ckpt is not None and backbone is not None:
        raise ElpError(f"{ckpt} is not an adapter folder, so it is the backbone itself: remove backbone={backbone}")
    config = load_config(model_config)
    stock, hub_name = load_backbone(name, ckpt if ckpt is not None else backbone, refresh, None)
    return ElpExpert(stock, config, name=hub_name, check=chosen.self_check)


def load_backbone(
    name: str | None, location: str | os.PathLike | None, refresh: bool, folder: AdapterFolder | None
) -> tuple[nn.Module, str | None]:
    """Return S3PRL's stock expert and its hub name, which is None for a checkpoint at a path or URL."""
    from s3prl import hub

    if location is None and name is not None and name.startswith(HUB_PREFIX):  # as an adapter folder records it
        location, name = name, None
    wanted = None if name is None else FOLDER_ENTRIES.get(name) or backbone_family(name)
    if wanted is not None and folder is not None and wanted != folder.family:
        raise ElpError(
            f"the adapter was trained on a {folder.family} backbone, but {name} is a {wanted}; use -u elp_local, with "
            f"--backbone PATH or ${BACKBONE_VARIABLE} if the backbone is a local checkpoint"
        )
    if location is None:
        if name is None or name in FOLDER_ENTRIES:
            needed = f"a local {folder.family} checkpoint" if folder else "a backbone checkpoint"
            how = f"--backbone PATH or {BACKBONE_VARIABLE}" if folder else "-k PATH_OR_URL"
            raise ElpError(f"this upstream needs {needed}: name it with {how}")
        with downloading():
            return getattr(hub, name)(refresh=refresh), name
    if name in FOLDER_ENTRIES or str(location).startswith(HUB_PREFIX) or is_hugging_face_folder(location):
        return _load_hugging_face(str(location), refresh, wanted or (folder.family if folder else None))
    found = read_backbone(local_path(str(location), refresh=refresh))
    if name is not None and backbone_family(name) != found.family:
        raise ElpError(
            f"{location} is a {found.family} checkpoint, but {name} is a {backbone_family(name)} model; "
            "use -u elp_local, which takes any family"
        )
    return found.expert(), name


def front_end(
    name: str | None, location: str | os.PathLike | None, *, backbone: str | os.PathLike | None = None
) -> FrontEnd:
    """Return the waveform CNN of a backbone from its configuration, without loading weights.

    The arguments are those of :func:`build_upstream`.

    Raises:
        ElpError: ``location`` cannot be used.
    """
    if location is not None and is_adapter_folder(location):
        recorded = read_adapter_folder(location).backbone or ""
        location = backbone or (recorded if recorded.startswith(HUB_PREFIX) else None)
    if location is None:  # a named backbone, or one that is refused when it is built
        return STANDARD
    place = str(location)
    if name in FOLDER_ENTRIES or place.startswith(HUB_PREFIX) or is_hugging_face_folder(place):
        return read_folder(place).front
    return read_backbone(local_path(place)).front


def _load_hugging_face(location: str, refresh: bool, wanted: str | None) -> tuple[nn.Module, str | None]:
    """Return the expert and the name to record, which is None for a local folder."""
    found = read_folder(location, refresh=refresh)
    expert = found.expert()  # first, so that a damaged folder is reported as damaged
    if wanted is not None and found.family != wanted:
        raise ElpError(f"{location} is a {found.family} backbone, but a {wanted} is needed")
    return expert, None if Path(location).is_dir() else HUB_PREFIX + location.removeprefix(HUB_PREFIX)


def local_path(location: str, *, refresh: bool = False) -> Path:
    """Return the file at a path, or the downloaded file of a URL in S3PRL's cache.

    Raises:
        ElpError: the file does not exist, is a folder, or cannot be downloaded.
    """
    if location.startswith(("http://", "https://")):
        from s3prl.util.download import _urls_to_filepaths

        with downloading():
            return Path(_urls_to_filepaths(location, refresh=refresh))
    path = Path(location)
    if is_adapter_folder(path):
        raise ElpError(
            f"{path} is a trained adapter folder and not a backbone; pass the checkpoint of the backbone that it was "
            "trained on"
        )
    if path.is_dir():
        raise ElpError(
            f"{path} is neither an adapter folder nor a backbone: it contains neither adapter_config.yaml nor "
            "config.json"
        )
    if not path.is_file():
        raise ElpError(
            f"there is no backbone checkpoint or adapter folder at {path} "
            f"(write a model on Hugging Face's hub as {HUB_PREFIX}ORGANISATION/NAME)"
        )
    return path
