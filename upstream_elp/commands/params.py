"""``elp params``: count trained and frozen parameters, from shapes alone or on a checkpoint."""

from __future__ import annotations

import copy
import json
from typing import Any

import click

from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.backbones.architecture import architecture, backbone_names
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.counting import count_parameters, summary

DEFAULT = "wavlm_base_plus"


@click.command()
@click.option("-g", "--adapter", help="Preset name or YAML file; without it, every preset.")
@click.option("-u", "--backbone", help=f"Named backbone.  [default: {DEFAULT}]")
@click.option("-k", "--checkpoint", help="Checkpoint of a backbone instead of a name, such as `elp run -k` takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def params(adapter: str | None, backbone: str | None, checkpoint: str | None, as_json: bool) -> None:
    """Count the parameters that a preset trains on a backbone; a named one needs no weights.

    The featurizer's layer weights and the head are not counted. "share" is trained parameters in per cent of the
    backbone's, of which 90.1 are the encoder layers that full fine-tuning trains on WavLM Base+.
    """
    if backbone is not None and checkpoint is not None:
        raise ElpError("-u names a backbone and -k is another one's checkpoint: leave one of them out")
    names = preset_names() if adapter is None else [adapter]
    unfit: dict[str, str] = {}
    if checkpoint is not None:
        total, counts, unfit = _on_checkpoint(checkpoint, names)
        if adapter is not None and unfit:
            raise ElpError(f"{adapter} does not fit {checkpoint}: {unfit[adapter]}")
        title = f"{checkpoint}: {total:,} parameters"
    else:
        model = architecture(DEFAULT if backbone is None else backbone)
        total, counts = model.total, {name: count_parameters(load_config(name), model) for name in names}
        title = f"{model.name}: {total:,} parameters ({len(backbone_names())} named backbones, see -u)"
    for name, reason in unfit.items():
        click.echo(f"elp: {name} does not fit: {reason}", err=True)
    if as_json:
        click.echo(json.dumps(counts if adapter is None else counts[adapter], indent=2))
        return
    click.echo(title)
    click.echo(_table(counts, total))


def _on_checkpoint(place: str, names: list[str]) -> tuple[int, dict[str, dict[str, Any]], dict[str, str]]:
    """The backbone's parameters, each fitting configuration's counts, and why others do not fit."""
    from upstream_elp.launch.registry import register
    from upstream_elp.upstream.adapter_folder import is_adapter_folder
    from upstream_elp.upstream.build import load_backbone
    from upstream_elp.upstream.expert import ElpExpert

    if is_adapter_folder(place):
        raise ElpError(f"-k {place} is a trained adapter folder; give the checkpoint of a backbone")
    register()
    stock, _ = load_backbone(None, place, False, None)
    total = sum(parameter.numel() for parameter in stock.parameters())
    plain = ElpExpert(stock, load_config("weighted_sum"), check=False)  # which can be copied, as S3PRL's cannot
    counts, unfit = {}, {}
    for name in names:
        config = load_config(name)
        try:
            expert = ElpExpert(copy.deepcopy(plain).backbone, config, check=False, known=plain.fingerprint)
        except ElpError as error:
            unfit[name] = str(error)
            continue
        counts[name] = summary(config, expert.injection.counts(expert), total)
    return total, counts, unfit


def _table(counts: dict[str, dict[str, Any]], total: int) -> str:
    from tabulate import tabulate

    rows = [_row(name, count, total) for name, count in counts.items()]
    rows.sort(key=lambda row: row[1])
    shown = [(name, f"{trainable:,}", *rest) for name, trainable, *rest in rows]
    headers = ["preset", "trainable", "share %", "frozen", "of which"]
    align = ["left", "right", "right", "right", "left"]
    return tabulate(shown, headers=headers, tablefmt="github", disable_numparse=True, colalign=align)


def _row(name: str, count: dict[str, Any], total: int) -> tuple[str, int, str, str, str]:
    components = {key: value for key, value in count["trainable"].items() if key != "total"}
    trainable = count["trainable"]["total"]
    parts = ", ".join(f"{key} {value:,}" for key, value in components.items())
    return name, trainable, f"{100 * trainable / total:.2f}", f"{count['frozen']:,}", parts
