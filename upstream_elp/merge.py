"""Fold trained tensors into a plain backbone checkpoint, which S3PRL then loads without this plugin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from upstream_elp.build import checkpoint_family
from upstream_elp.errors import ElpError
from upstream_elp.expert import ElpExpert
from upstream_elp.files import whole_file
from upstream_elp.options import WEIGHT_SPACE

WEIGHT_KEYS = ("model", "model_weight")
"""Where the tensors are in S3PRL's checkpoint formats: WavLM's, and that of HuBERT and wav2vec 2.0."""


def merged_tensors(expert: ElpExpert) -> dict[str, Tensor]:
    """The backbone's own tensors as the expert uses them, where they differ from the plain backbone's.

    Args:
        expert: with trained adapters.

    Returns:
        Key in the plain model's state dict to tensor.

    Raises:
        ElpError: if a method does more than change the backbone's own tensors.
    """
    if outside := [name for name in expert.config.methods if name not in WEIGHT_SPACE]:
        raise ElpError(
            f"{expert.config.name!r} cannot be merged into a plain backbone: {', '.join(outside)} computes something "
            f"of its own (only {', '.join(WEIGHT_SPACE)} can be merged)"
        )
    if not expert.injection.declared:
        raise ElpError(f"{expert.config.name!r} trains nothing in the backbone, so there is nothing to merge")
    model_path = expert.injection.model_path
    tensors = {}
    for path, module in expert.get_submodule(model_path).named_modules():
        if parametrize.is_parametrized(module):
            tensors.update({f"{path}.{name}": getattr(module, name) for name in module.parametrizations})
    for item in expert.injection.declared.values():
        if item.component == "encoder":  # trained in place
            tensors[item.path.removeprefix(f"{model_path}.")] = expert.get_parameter(item.path)
    return {key: tensor.detach().cpu().clone() for key, tensor in tensors.items()}


def write_merged(expert: ElpExpert, source: Path, out: Path) -> Path:
    """Write the backbone's checkpoint ``source`` with the expert's tensors in it as ``out``; whole or not at all.

    Raises:
        ElpError: a method that cannot be merged, ``out`` exists, or ``source`` is not this expert's backbone.
    """
    tensors = merged_tensors(expert)
    if out.exists():
        raise ElpError(f"{out} exists; name another place for the merged checkpoint")
    family = checkpoint_family(source)
    if family != expert.injection.family.name:
        raise ElpError(
            f"{source} is a {family} checkpoint, but the adapter's backbone is a {expert.injection.family.name}"
        )
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    weights = checkpoint[next(key for key in WEIGHT_KEYS if key in checkpoint)]
    for key, tensor in tensors.items():
        if key not in weights or weights[key].shape != tensor.shape:
            raise ElpError(f"{source} has no tensor {key} of the shape {tuple(tensor.shape)}: it is another backbone")
        weights[key] = tensor
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out, "wb") as file:
            torch.save(checkpoint, file)
    except OSError as error:
        raise ElpError(f"cannot write {out}: {error.strerror}") from error
    return out
