"""Fold trained tensors into a plain backbone checkpoint, which then loads without this plugin."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from upstream_elp.adapters.injection import Switch
from upstream_elp.adapters.registry import LAST, OURS, method_class
from upstream_elp.backbones.backbone_file import read_backbone
from upstream_elp.backbones.family import HUGGING_FACE
from upstream_elp.backbones.huggingface import load_model, write_hugging_face
from upstream_elp.backbones.huggingface_files import hugging_face_family, normalizes_waves
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file, whole_folder
from upstream_elp.upstream.expert import ElpExpert


def merged_tensors(expert: ElpExpert) -> dict[str, Tensor]:
    """Return the backbone's own tensors as the expert uses them, if they differ from those of the plain backbone.

    Args:
        expert: an expert with trained adapters.

    Returns:
        Tensors by their key in the state dict of the plain model.

    Raises:
        ElpError: a method does more than change the backbone's own tensors.
    """
    methods = expert.config.methods
    if outside := [name for name, method in methods.items() if not method.mergeable]:
        raise ElpError(
            f"{expert.config.name!r} cannot be merged into a plain backbone: {', '.join(outside)} cannot be "
            f"written as a change of its weights (of our methods, {', '.join(_mergeable())} can be merged)"
        )
    if not expert.injection.declared:
        raise ElpError(f"{expert.config.name!r} trains nothing in the backbone, so there is nothing to merge")
    model_path = expert.injection.model_path
    tensors = {}
    for path, module in expert.get_submodule(model_path).named_modules():
        if parametrize.is_parametrized(module):
            ours = [name for name, chain in module.parametrizations.items() if isinstance(chain[0], Switch)]
            tensors.update({f"{path}.{name}": getattr(module, name) for name in ours})
    for item in expert.injection.declared.values():
        if methods[item.component].in_place:
            tensors[item.path.removeprefix(f"{model_path}.")] = expert.get_parameter(item.path)
    return {key: tensor.detach().cpu().clone() for key, tensor in tensors.items()}


def _mergeable() -> list[str]:
    return [name for name in (*OURS, *LAST) if method_class(name).mergeable]


def write_merged(expert: ElpExpert, source: str | os.PathLike, out: Path) -> Path:
    """Write the plain backbone ``source`` with the expert's tensors to ``out``, completely or not at all.

    Args:
        expert: an expert with trained adapters.
        source: the backbone's checkpoint file, or its folder or hub name in Hugging Face's format.
        out: a file in S3PRL's format or a folder in Hugging Face's; it only contains the model, without any head of
            ``source``.

    Raises:
        ElpError: a method cannot be merged, ``out`` exists, or ``source`` is not the backbone of this expert.
    """
    tensors = merged_tensors(expert)
    if out.exists():
        raise ElpError(f"{out} exists; name another place for the merged checkpoint")
    hugging_face = expert.injection.family.format == HUGGING_FACE
    family = hugging_face_family(str(source)) if hugging_face else read_backbone(Path(source)).family
    if family != expert.injection.family.name:
        raise ElpError(
            f"{source} is a {family} checkpoint, but the adapter's backbone is a {expert.injection.family.name}; "
            "pass the right one with --backbone"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return (_write_folder if hugging_face else _write_file)(tensors, source, out)
    except OSError as error:
        raise ElpError(f"cannot write {out}: {error.strerror}") from error


def _write_file(tensors: dict[str, Tensor], source: str | os.PathLike, out: Path) -> Path:
    found = read_backbone(Path(source))
    _replace(found.state[found.weights_key], tensors, source)
    with whole_file(out, "wb") as file:
        torch.save(found.state, file)
    return out


def _write_folder(tensors: dict[str, Tensor], source: str | os.PathLike, out: Path) -> Path:
    model = load_model(str(source))
    weights = model.state_dict()
    _replace(weights, tensors, source)
    model.load_state_dict(weights)
    with whole_folder(out) as folder:
        write_hugging_face(model, folder, normalize=normalizes_waves(str(source)))
    return out


def _replace(weights: dict[str, Tensor], tensors: dict[str, Tensor], source: str | os.PathLike) -> None:
    """Replace the tensors of the same names."""
    for key, tensor in tensors.items():
        if key not in weights or weights[key].shape != tensor.shape:
            raise ElpError(f"{source} is another backbone: it has no tensor {key} of shape {tuple(tensor.shape)}")
        weights[key] = tensor
