"""Between an adapter folder and a backbone with adapters: compare backbones, audit tensors, copy them."""

from __future__ import annotations

import logging

import torch

from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.adapter_folder import AdapterFolder
from upstream_elp.upstream.state_dict import audit

logger = logging.getLogger(__name__)
BACKBONE_VARIABLE = "ELP_BACKBONE"


def load_adapter(expert: AdaptedModule, folder: AdapterFolder, *, where: str) -> None:
    """Copy a folder's tensors into an expert of the same configuration and backbone.

    Raises:
        ElpError: another backbone, or other tensors than the configuration declares; nothing is loaded then.
    """
    check_backbone(folder, expert.fingerprint, where=where)
    copy_tensors(expert, folder)


def copy_tensors(expert: AdaptedModule, folder: AdapterFolder) -> None:
    """Copy a folder's tensors into an expert on the backbone that they were trained on.

    Raises:
        ElpError: other tensors than the configuration declares; nothing is copied then.
    """
    audit(expert, folder.tensors)
    with torch.no_grad():
        for name, parameter in expert.injection.parameters(expert).items():
            parameter.copy_(folder.tensors[name])
    expert.trained = True


def check_backbone(folder: AdapterFolder, backbone: Fingerprint, *, where: str) -> None:
    """Compare the backbone that a folder was trained on with the one at hand; a copy in half precision may pass.

    Raises:
        ElpError: another backbone.
    """
    if folder.fingerprint.sha256 == backbone.sha256:
        return
    if not folder.fingerprint.resembles(backbone):
        raise ElpError(
            f"{where} was trained on another backbone ({folder.backbone or 'a local checkpoint'}, sha256 "
            f"{folder.fingerprint.sha256[:12]}; this one has {backbone.sha256[:12]}); give the right one with "
            f"--backbone PATH or ${BACKBONE_VARIABLE}"
        )
    logger.warning("%s was trained on another precision of this backbone; results may differ slightly", where)


def adapter_folder_of(expert: AdaptedModule) -> AdapterFolder:
    """What :func:`upstream_elp.upstream.adapter_folder.write_adapter_folder` needs to know of a trained expert."""
    parameters = expert.injection.parameters(expert)
    return AdapterFolder(
        config=expert.config,
        tensors={name: parameter.detach().cpu().clone() for name, parameter in parameters.items()},
        backbone=expert.name,
        family=expert.injection.family.name,
        fingerprint=expert.fingerprint,
    )
