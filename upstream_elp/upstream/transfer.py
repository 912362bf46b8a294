"""Copy tensors between an adapter folder and a backbone with adapters, after comparing the backbones."""

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
    """Copy a folder's tensors into an expert with the same configuration and backbone.

    Raises:
        ElpError: another backbone, or tensors that the configuration does not declare; nothing is loaded then.
    """
    check_backbone(folder, expert.fingerprint, where=where)
    copy_tensors(expert, folder)


def copy_tensors(expert: AdaptedModule, folder: AdapterFolder) -> None:
    """Copy a folder's tensors into an expert on the backbone that they were trained on.

    Raises:
        ElpError: tensors that the configuration does not declare; nothing is copied then.
    """
    audit(expert, folder.tensors)
    with torch.no_grad():
        for name, parameter in expert.injection.parameters(expert).items():
            parameter.copy_(folder.tensors[name])
    expert.trained = True


def check_backbone(folder: AdapterFolder, backbone: Fingerprint, *, where: str) -> None:
    """Compare the backbone that a folder was trained on with another one; a copy in half precision passes.

    Raises:
        ElpError: another backbone.
    """
    if folder.fingerprint.sha256 == backbone.sha256:
        return
    if not folder.fingerprint.resembles(backbone):
        raise ElpError(
            f"{where} was trained on another backbone ({folder.backbone or 'a local checkpoint'}, sha256 "
            f"{folder.fingerprint.sha256[:12]}; this one has {backbone.sha256[:12]}); pass the right one with "
            f"--backbone PATH or ${BACKBONE_VARIABLE}"
        )
    logger.warning("%s was trained on this backbone in another precision; results may differ slightly", where)


def adapter_folder_of(expert: AdaptedModule) -> AdapterFolder:
    """Return the content of an adapter folder for a trained expert."""
    parameters = expert.injection.parameters(expert)
    return AdapterFolder(
        config=expert.config,
        tensors={name: parameter.detach().cpu().clone() for name, parameter in parameters.items()},
        backbone=expert.name,
        family=expert.injection.family.name,
        fingerprint=expert.fingerprint,
    )
