"""``elp export``: turn a training checkpoint into an adapter folder."""

from __future__ import annotations

import click


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
    expert = _rebuild(load_states(path), str(path), backbone)
    folder = write_adapter_folder(out, adapter_folder_of(expert))
    total = sum(expert.injection.counts(expert).values())
    click.echo(f"{path} -> {folder}: {expert.config.name}, {total:,} parameters")


def _rebuild(states: dict, where: str, backbone: str | None) -> object:
    import upstream_elp
    from upstream_elp.errors import ElpError

    args = states["Args"]
    if not args.upstream.startswith("elp_"):
        raise ElpError(f"{where} was trained with the upstream {args.upstream}, which has no adapters")
    if "Upstream" not in states:
        raise ElpError(f"{where} holds no adapters: it was trained without -f, so there is nothing to export")
    upstream_elp.register()
    from s3prl import hub

    expert = getattr(hub, args.upstream)(ckpt=backbone or args.upstream_ckpt, model_config=args.upstream_model_config)
    expert.load_state_dict(states["Upstream"])
    return expert
