"""Write a pretrained backbone small enough to ship, and turn it into what S3PRL and Hugging Face load.

    python recipes/pretrain/export.py pack RUN/backbone-020000.pt BACKBONE
    python recipes/pretrain/export.py unpack BACKBONE backbone.pt
    python recipes/pretrain/export.py unpack BACKBONE FOLDER --format hf

BACKBONE gets `model.safetensors` with S3PRL's names in half precision, and `backbone.yaml` with the fields of
`BackboneShape`, a hash of the weights, and their origin.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from model import FAMILIES, SHAPES, parts, shape_of
from safetensors.torch import save_file

import upstream_elp
from upstream_elp.backbones.random_models import build_checkpoint
from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, write_text
from upstream_elp.mini.packed import CARD, WEIGHTS, unpack, write_packed
from upstream_elp.mini.sizes import PRETRAINED_FORMATS

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
    (out / WEIGHTS).chmod(0o644)  # safetensors creates files with mode 0600
    if (size := (out / WEIGHTS).stat().st_size) > LARGEST:
        raise ElpError(f"{out / WEIGHTS} must have at most {LARGEST} bytes, but has {size}; use a smaller --size")
    fields = {**asdict(shape), "conv": [list(layer) for layer in shape.conv]}
    card = {
        "format": 1, "shape": fields, "weights": {"file": WEIGHTS, "sha256": sha256_of(out / WEIGHTS)},
        "licence": "MIT", "origin": {"checkpoint": sha256_of(checkpoint), **origin},
    }  # fmt: skip
    write_text(out / CARD, yaml.safe_dump(card, sort_keys=False))


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


@main.command("unpack")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "form", default="s3prl", show_default=True, type=click.Choice(PRETRAINED_FORMATS))
def unpack_command(folder: Path, out: Path, form: str) -> None:
    """Write the packed backbone in FOLDER for S3PRL's wavlm_local or hubert_local, or for transformers."""
    write_packed(unpack(folder), out, format=form)


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
