"""``elp export``: write the adapters and head of a training checkpoint as an adapter folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upstream_elp.experiment.checkpoint import Checkpoint
    from upstream_elp.upstream.expert import ElpExpert
    from upstream_elp.upstream.head_folder import TrainedHead


@click.command()
@click.argument("expdir", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--backbone", help="The backbone's checkpoint, if it has moved since training.")
@click.option("--no-head", is_flag=True, help="Write the adapters only.")
@click.option("--model-card", is_flag=True, help="Also write README.md: a model card for Hugging Face's hub.")
@click.option("--license", "license_", help="Licence in the model card, such as mit.")
def export(expdir: str, out: str, backbone: str | None, no_head: bool, model_card: bool, license_: str | None) -> None:
    """Export the adapters and the head of EXPDIR, an experiment folder or a checkpoint, to the folder OUT.

    Use the adapters (adapter.safetensors, adapter_config.yaml) in any task with `elp run -u elp_local -k OUT`. With
    the head (head.safetensors, head_config.yaml), `elp infer OUT` works too. Heads of S3PRL's own tasks are not
    exported.

    Example: elp export result/asr_le adapters/asr_le
    """
    from upstream_elp.base.errors import ElpError
    from upstream_elp.experiment.checkpoint import find_checkpoint, load_checkpoint
    from upstream_elp.inference.rebuild import rebuild, why_no_head
    from upstream_elp.upstream.adapter_folder import is_adapter_folder, write_adapter_folder
    from upstream_elp.upstream.transfer import adapter_folder_of

    if is_adapter_folder(expdir):
        raise ElpError(
            f"{expdir} is already an exported adapter folder; use or copy it as it is, or name an experiment folder or "
            "a checkpoint"
        )
    if license_ and not model_card:
        raise ElpError("--license is written into the model card, but there is none; pass --model-card too")
    path = find_checkpoint(expdir)
    checkpoint = load_checkpoint(path)
    reason = "--no-head" if no_head else why_no_head(checkpoint)
    expert = rebuild(checkpoint, str(path), backbone)
    if reason and not expert.injection.declared:
        raise ElpError(
            f"{path} contains nothing to export: {expert.config.name} trains nothing in the backbone, and there is no "
            f"head ({reason})"
        )
    head = None if reason else _head(expert, checkpoint, str(path))
    folder = write_adapter_folder(out, adapter_folder_of(expert), head)
    total = sum(expert.injection.counts(expert).values())
    what = f"without a head ({reason})"
    if head is not None:
        what = f"with the {head.task} head ({sum(tensor.numel() for tensor in head.tensors.values()):,} parameters)"
    click.echo(f"{path} -> {folder}: {expert.config.name}, {total:,} parameters, {what}")
    if model_card:
        from upstream_elp.base.values import mapping
        from upstream_elp.experiment.checkpoint import Remembered
        from upstream_elp.submission.model_card import facts_of, write_card

        block = mapping(checkpoint.config.get("downstream_expert"), key="downstream_expert")
        root = mapping(block.get("datarc"), key="downstream_expert.datarc").get("root")
        places = [root, Remembered.of(checkpoint.args).data]
        task = checkpoint.args.downstream
        facts = facts_of(path.parent, task=task, name=folder.name, license=license_, places=places)
        click.echo(str(write_card(folder, facts)))


def _head(expert: ElpExpert, checkpoint: Checkpoint, where: str) -> TrainedHead:
    from upstream_elp.inference.loading import build_featurizer, build_predictor, head_behind
    from upstream_elp.inference.rebuild import selection

    head = head_behind(build_featurizer(expert, selection(checkpoint), where=where), checkpoint, where)
    build_predictor(head, where=where)  # never write a head that cannot be loaded again
    return head
