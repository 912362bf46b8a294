"""``elp export``: turn a training checkpoint into an adapter folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upstream_elp.expert import ElpExpert


@click.command()
@click.argument("expdir", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--backbone", help="Where the backbone's checkpoint is now, if it moved since training.")
def export(expdir: str, out: str, backbone: str | None) -> None:
    """Write the adapters of EXPDIR (an experiment directory or one checkpoint) as the folder OUT.

    The folder (adapter.safetensors, adapter_config.yaml) can be given to any task with -u elp_local -k OUT.
    """
    from upstream_elp.build import adapter_folder_of
    from upstream_elp.checkpoint import write_adapter_folder
    from upstream_elp.training.states import find_states, load_states

    path = find_states(expdir)
    expert = rebuild(load_states(path), str(path), backbone)
    folder = write_adapter_folder(out, adapter_folder_of(expert))
    total = sum(expert.injection.counts(expert).values())
    click.echo(f"{path} -> {folder}: {expert.config.name}, {total:,} parameters")


def rebuild(states: dict, where: str, backbone: str | None) -> ElpExpert:
    """Build the expert of a training checkpoint, with its trained tensors.

    Raises:
        ElpError: if the checkpoint holds no adapters, or other ones than its configuration says.
    """
    import upstream_elp
    from upstream_elp.errors import ElpError

    args = states["Args"]
    if not str(args.upstream).startswith("elp_"):
        raise ElpError(f"{where} was trained with the upstream {args.upstream}, which has no adapters")
    if not isinstance(states.get("Upstream"), dict):
        raise ElpError(f"{where} holds no adapters: it was trained without -f, so there is nothing to export")
    upstream_elp.register()
    from s3prl import hub

    from upstream_elp.host import checks

    checks.name(f"{where}: -u", args.upstream, hub.options())
    from upstream_elp.checkpoint import is_adapter_folder

    place = args.upstream_ckpt
    if place is not None and is_adapter_folder(place):  # the run went on from a trained adapter
        expert = getattr(hub, args.upstream)(ckpt=place, backbone=backbone)
    else:
        expert = getattr(hub, args.upstream)(ckpt=backbone or place, model_config=args.upstream_model_config)
    expert.load_state_dict(states["Upstream"])
    return expert
