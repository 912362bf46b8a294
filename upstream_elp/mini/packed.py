"""Backbones packed for shipping: half-precision weights (safetensors) with a YAML card, and what loads them.

The card has the fields of :class:`BackboneShape`, a hash of the weights, their licence and their origin. The package
contains one, :data:`PRETRAINED`, which ``recipes/pretrain`` made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from upstream_elp.backbones.family import weights_key
from upstream_elp.backbones.huggingface import write_hugging_face
from upstream_elp.backbones.random_models import build_checkpoint, hugging_face_model
from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.mini.backbone import place

PRETRAINED = Path(__file__).parent / "pretrained"
WEIGHTS, CARD = "model.safetensors", "backbone.yaml"


@dataclass(frozen=True)
class Packed:
    """A packed backbone: its shape, its weights in fp32 under S3PRL's names, and its card."""

    shape: BackboneShape
    weights: Mapping[str, Tensor]
    card: Mapping[str, Any]


def unpack(folder: Path) -> Packed:
    """Read a packed backbone.

    Raises:
        ElpError: a file is missing, or the weights are not those of the card.
    """
    card = read_yaml(folder / CARD, by_hand=False)
    weights = folder / card["weights"]["file"]
    if not weights.is_file() or sha256_of(weights) != card["weights"]["sha256"]:
        raise ElpError(f"{weights} must be the file that {CARD} describes, but is missing or differs; install it again")
    fields = {**card["shape"], "conv": tuple(tuple(layer) for layer in card["shape"]["conv"])}
    tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
    return Packed(BackboneShape(**fields), tensors, card)


def write_packed(packed: Packed, path: str | os.PathLike[str], *, format: str = "s3prl") -> Path:
    """Write a packed backbone so that it can be used, and return its path.

    Args:
        packed: the backbone, from :func:`unpack`.
        path: a file for S3PRL's ``<family>_local``, or a folder for Hugging Face's ``from_pretrained``.
        format: ``s3prl`` or ``hf``.

    Raises:
        ElpError: ``path`` exists with other content, or cannot be written.
    """

    def make(made: Path) -> None:
        if format == "hf":
            made.mkdir()
            model = hugging_face_model(packed.shape, packed.weights)
            write_hugging_face(model, made, normalize=packed.shape.normalize)
        else:
            torch.save(to_s3prl(packed), made)

    return place(Path(path), make)


def to_s3prl(packed: Packed) -> dict[str, Any]:
    """Return the checkpoint that S3PRL's ``<family>_local`` loads."""
    empty = build_checkpoint(packed.shape)
    key = weights_key(empty)
    if empty[key].keys() != packed.weights.keys():
        raise ElpError(
            f"the weights must be those of a {packed.shape.family}, but their names differ; pack the backbone again"
        )
    return {**empty, key: dict(packed.weights)}
