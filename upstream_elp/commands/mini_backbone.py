"""``elp mini-backbone``: a random backbone that S3PRL's local loaders read."""

from pathlib import Path
from typing import Any

import click

from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import HUGGING_FACE
from upstream_elp.mini.sizes import FAMILIES, SIZES


@click.command("mini-backbone")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--family", type=click.Choice(FAMILIES), default="wavlm", show_default=True)
@click.option(
    "--size", type=click.Choice(list(SIZES)), default="mini", show_default=True, help="The options below override it."
)
@click.option("--layers", type=int, help="Transformer layers.")
@click.option("--dim", type=int, help="Width of the hidden states.")
@click.option("--ffn", type=int, help="Inner width of the feed-forward blocks (4 x dim).")
@click.option("--heads", type=int, help="Attention heads; must divide dim.")
@click.option(
    "--norm", type=click.Choice(["post", "pre"]), help="Layer norms after (Base) or before (Large) each block."
)
@click.option("--front", type=click.Choice(["group", "layer"]), help="Norm of the waveform layers: Base or Large.")
@click.option("--normalize/--no-normalize", default=None, help="Normalise each waveform (Large).")
@click.option("--seed", type=int, default=0, show_default=True)
def mini_backbone(
    out: Path,
    family: str,
    size: str,
    norm: str | None,
    front: str | None,
    seed: int,
    **given: Any,
) -> None:
    """Write a backbone with random weights to OUT, a file in S3PRL's own checkpoint format.

    For the families hf_* OUT is a folder in Hugging Face's format. Use it with `elp run -u elp_local -k OUT`, or with
    S3PRL's own `-u wavlm_local -k OUT` (`hubert_local`, `hf_hubert_custom`, ...). The same options and seed give the
    same file; an OUT that holds something else is left as it is.
    """
    from upstream_elp.launch.registry import register
    from upstream_elp.mini.backbone import count_parameters, write_backbone
    from upstream_elp.mini.sizes import size_options

    if families()[family].format == HUGGING_FACE:
        register()  # transformers imports torchaudio, which may need mending first
    options = size_options(size, family)
    if given.get("dim") and not given.get("ffn"):
        options.pop("ffn", None)
    options.update({name: value for name, value in given.items() if value is not None})
    if norm:
        options["layer_norm_first"] = norm == "pre"
    if front:
        options["extractor_mode"] = {"group": "default", "layer": "layer_norm"}[front]
    path = write_backbone(out, family=family, seed=seed, **options)
    click.echo(
        f"{path}: {family}, {options['layers']} layers x {options['dim']}, {count_parameters(path):,} parameters, "
        f"random weights (seed {seed})"
    )
