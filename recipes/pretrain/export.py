"""Write a pretrained backbone small enough to ship, and turn it into what S3PRL and Hugging Face load.

    python recipes/pretrain/export.py pack RUN/backbone-020000.pt BACKBONE
    python recipes/pretrain/export.py s3prl BACKBONE backbone.pt
    python recipes/pretrain/export.py hf BACKBONE FOLDER

BACKBONE gets `model.safetensors` with S3PRL's names in half precision, and `backbone.yaml` with the fields of
`BackboneShape`, a hash of the weights, and their origin.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from model import FAMILIES, SHAPES, joined, parts, shape_of
from safetensors.torch import load_file, save_file
from torch import Tensor
from trainer import save_backbone

import upstream_elp
from upstream_elp.backbones.huggingface import write_hugging_face
from upstream_elp.backbones.random_models import build_checkpoint, build_hugging_face, hugging_face_name
from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, write_text

WEIGHTS, CARD = "model.safetensors", "backbone.yaml"
LARGEST = 10_000_000  # bytes


def recognise(checkpoint: dict[str, Any]) -> BackboneShape:
    """Return the shape of a checkpoint of this recipe.

    Raises:
        ElpError: it is another model.
    """
    described = parts(checkpoint)[0]
    for size in SHAPES:
        for family in FAMILIES:
            shape = shape_of(size, family)
            if parts(build_checkpoint(shape))[0] == described:
                return shape
    raise ElpError(
        "the checkpoint must be a backbone of this recipe, but has another configuration; name a backbone-<step>.pt"
    )


def pack(checkpoint: Path, out: Path, origin: dict[str, Any]) -> None:
    """Write a checkpoint in S3PRL's format as half-precision safetensors and a YAML card.

    Raises:
        ElpError: the weights do not fit into half precision or into 10 MB.
    """
    content = torch.load(checkpoint, weights_only=True)
    shape, weights = recognise(content), parts(content)[1]
    halves = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in halves.values()):
        raise ElpError(f"the weights of {checkpoint} must be finite in half precision, but some are not; train again")
    out.mkdir(parents=True, exist_ok=True)
    save_file(halves, out / WEIGHTS)
    if (size := (out / WEIGHTS).stat().st_size) > LARGEST:
        raise ElpError(f"{out / WEIGHTS} must have at most {LARGEST} bytes, but has {size}; use a smaller --size")
    fields = {**asdict(shape), "conv": [list(layer) for layer in shape.conv]}
    card = {
        "format": 1, "shape": fields, "weights": {"file": WEIGHTS, "sha256": sha256_of(out / WEIGHTS)},
        "licence": "MIT", "origin": {"checkpoint": sha256_of(checkpoint), **origin},
    }  # fmt: skip
    write_text(out / CARD, yaml.safe_dump(card, sort_keys=False))


def unpack(folder: Path) -> tuple[BackboneShape, dict[str, Tensor]]:
    """Return the shape and the fp32 weights of a packed backbone.

    Raises:
        ElpError: the weights are not those of the card.
    """
    card = yaml.safe_load((folder / CARD).read_text(encoding="utf-8"))
    weights = folder / card["weights"]["file"]
    if sha256_of(weights) != card["weights"]["sha256"]:
        raise ElpError(f"{weights} must have the sha256 in {CARD}, but has another; pack it again")
    fields = {**card["shape"], "conv": tuple(tuple(layer) for layer in card["shape"]["conv"])}
    return BackboneShape(**fields), {name: tensor.float() for name, tensor in load_file(weights).items()}


def to_s3prl(shape: BackboneShape, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return the checkpoint that S3PRL's ``<family>_local`` loads."""
    return joined(parts(build_checkpoint(shape))[0], weights)


def to_hugging_face(shape: BackboneShape, weights: dict[str, Tensor]) -> torch.nn.Module:
    """Return Hugging Face's model with these weights."""
    model = build_hugging_face(replace(shape, family=f"hf_{shape.family}"))
    named = {hugging_face_name(name): tensor for name, tensor in weights.items()}
    named.pop(None, None)
    missing = {name for name in model.state_dict() if name not in named}
    # without a projection in S3PRL's model, the builder has set Hugging Face's to the identity
    if missing - {"feature_projection.projection.weight", "feature_projection.projection.bias"}:
        raise ElpError(f"Hugging Face's model needs {sorted(missing)}, which the backbone does not have")
    model.load_state_dict({**model.state_dict(), **named})
    return model


@click.group()
def main() -> None:
    """Convert pretrained backbones."""
    upstream_elp.register()


@main.command("pack")
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--note", multiple=True, help="KEY=VALUE for the card's origin, such as command=...; repeatable.")
def pack_command(checkpoint: Path, out: Path, note: tuple[str, ...]) -> None:
    """Write CHECKPOINT (of train.py) into the folder OUT."""
    pack(checkpoint, out, dict(text.partition("=")[::2] for text in note))
    click.echo(f"{out}: {(out / WEIGHTS).stat().st_size} bytes")


@main.command("s3prl")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def s3prl_command(folder: Path, out: Path) -> None:
    """Write the packed backbone in FOLDER as a file for S3PRL's wavlm_local or hubert_local."""
    save_backbone(to_s3prl(*unpack(folder)), out)


@main.command("hf")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def hf_command(folder: Path, out: Path) -> None:
    """Write the packed backbone in FOLDER as a folder for Hugging Face's from_pretrained."""
    shape, weights = unpack(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_hugging_face(to_hugging_face(shape, weights), out, normalize=shape.normalize)


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
