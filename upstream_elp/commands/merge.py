"""``elp merge``: fold trained weights into a plain backbone checkpoint."""

from __future__ import annotations

import click


@click.command()
@click.argument("trained", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--backbone", help="The plain backbone's checkpoint (path or URL). [default: where training found it]")
def merge(trained: str, out: str, backbone: str | None) -> None:
    """Merge TRAINED, an adapter folder, an experiment folder or a checkpoint, into its backbone and write it to OUT.

    OUT is a checkpoint in the plain backbone's format. S3PRL loads it without this plugin (as wavlm_local,
    hubert_local and so on), and transformers loads it if the format is Hugging Face's. Only methods that change the
    backbone's own tensors can be merged; see `elp backbones`.

    Example: elp merge result/er_lora wavlm_er.pt
    """
    from pathlib import Path

    from upstream_elp.backbones.family import HUGGING_FACE
    from upstream_elp.base.errors import ElpError
    from upstream_elp.upstream.build import local_path
    from upstream_elp.upstream.merge import write_merged

    expert, location = _load(trained, backbone)
    hugging_face = expert.injection.family.format == HUGGING_FACE
    source = location if hugging_face else local_path(location)
    if Path(source).resolve() == Path(out).resolve():
        raise ElpError(f"{out} is the plain backbone itself; choose another OUT for the merged checkpoint")
    write_merged(expert, source, Path(out))
    local = expert.injection.family.hub_local
    how = f"S3PRL loads it with -u {local} -k {out}"
    if hugging_face:
        how = f"transformers loads it with AutoModel.from_pretrained({str(out)!r})"
    click.echo(f"{trained} -> {out}: {expert.config.name}; {how}")
    if expert.config.features == "last":
        click.echo("its head was trained on the last hidden state only; pass -l -1 to S3PRL too")


def _load(trained: str, backbone: str | None) -> tuple:
    """The expert, and where its plain backbone is."""
    from upstream_elp.base import settings
    from upstream_elp.base.errors import ElpError
    from upstream_elp.experiment.checkpoint import find_checkpoint, load_checkpoint
    from upstream_elp.inference.rebuild import rebuild
    from upstream_elp.upstream.adapter_folder import is_adapter_folder
    from upstream_elp.upstream.build import build_upstream

    location = backbone = backbone or settings.current().backbone
    checkpoint = None
    if not is_adapter_folder(trained):
        path = find_checkpoint(trained)
        checkpoint = load_checkpoint(path)
        location = location or checkpoint.args.upstream_ckpt
    if not location or is_adapter_folder(location):
        raise ElpError(f"{trained} does not say where its plain backbone is; pass its checkpoint with --backbone")
    if checkpoint is None:
        return build_upstream(None, ckpt=trained, backbone=location), location
    return rebuild(checkpoint, str(path), backbone), location
