"""``elp mini-backbone``: write a small backbone that S3PRL can load, random or pretrained."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import HUGGING_FACE
from upstream_elp.base.errors import ElpError
from upstream_elp.mini.sizes import FAMILIES, PRETRAINED_FORMATS, SIZES


@click.command("mini-backbone")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--family", type=click.Choice(FAMILIES), default="wavlm", show_default=True)
@click.option(
    "--size", type=click.Choice(list(SIZES)), default="mini", show_default=True, help="Defaults of the options below."
)
@click.option("--layers", type=int, help="Number of Transformer layers.")
@click.option("--dim", type=int, help="Width of the hidden states.")
@click.option("--ffn", type=int, help="Inner width of the feed-forward blocks. [default: 4 x dim]")
@click.option("--heads", type=int, help="Number of attention heads; must divide dim.")
@click.option(
    "--norm",
    type=click.Choice(["post", "pre"]),
    help="Layer norm after (post, as in Base) or before (pre, as in Large) each block.",
)
@click.option(
    "--front",
    type=click.Choice(["group", "layer"]),
    help="Norm in the waveform layers: group (as in Base) or layer (as in Large).",
)
@click.option("--normalize/--no-normalize", default=None, help="Normalise each waveform, as in Large.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--pretrained", is_flag=True, help="The packaged WavLM that was pretrained on synthesised speech; no other options."
)
@click.option(
    "--format", "form", type=click.Choice(PRETRAINED_FORMATS), help="Format of --pretrained.  [default: s3prl]"
)
@click.pass_context
def mini_backbone(
    context: click.Context,
    out: Path,
    family: str,
    size: str,
    norm: str | None,
    front: str | None,
    seed: int,
    pretrained: bool,
    form: str | None,
    **given: Any,
) -> None:
    """Write a small backbone to OUT, a checkpoint in S3PRL's format, with random weights or pretrained.

    For the families hf_* and with `--format hf`, OUT is a folder in Hugging Face's format. Use the backbone with `elp
    run -u elp_local -k OUT`, or without this plugin as S3PRL's wavlm_local, hubert_local, hf_hubert_custom and so on.
    The same options and seed always give the same file. An OUT with other contents is not overwritten.

    Example: elp mini-backbone mini.pt --pretrained
    """
    if pretrained:
        _write_pretrained(out, form or "s3prl", context)
        return
    if form:
        raise ElpError("--format needs --pretrained; random weights get their format from --family, such as hf_wavlm")
    from upstream_elp.launch.registry import register
    from upstream_elp.mini.backbone import count_parameters, write_backbone
    from upstream_elp.mini.sizes import size_options

    if families()[family].format == HUGGING_FACE:
        register()  # transformers imports torchaudio, which may need a patch first
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


def _write_pretrained(out: Path, form: str, context: click.Context) -> None:
    """Write the packaged backbone; options that describe random weights are refused."""
    from upstream_elp.launch.registry import register
    from upstream_elp.mini.packed import PRETRAINED, unpack, write_packed

    given = [name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if others := sorted(set(given) - {"out", "pretrained", "form"}):
        raise ElpError(f"--pretrained describes the whole backbone; remove --{others[0]}")
    register()  # transformers imports torchaudio, which may need a patch first
    packed = unpack(PRETRAINED)
    path = write_packed(packed, out, format=form)
    shape, numbers = packed.shape, sum(tensor.numel() for tensor in packed.weights.values())
    click.echo(f"{path}: {shape.family}, {shape.layers} layers x {shape.dim}, {numbers:,} parameters, pretrained")
