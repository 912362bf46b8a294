"""``elp params``: count trained and frozen parameters, from shapes only or on a checkpoint."""

from __future__ import annotations

import json
from typing import Any

import click

from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.backbones.architecture import architecture, backbone_names
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.counting import count_parameters

DEFAULT = "wavlm_base_plus"


@click.command()
@click.option(
    "-g", "--adapter", "adapters", multiple=True, help="Preset name or YAML file; repeatable. [default: every preset]"
)
@click.option("-u", "--backbone", help=f"Name of a backbone. [default: {DEFAULT}]")
@click.option("-k", "--checkpoint", help="Checkpoint of a backbone, as for `elp run -k`, instead of a name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def params(adapters: tuple[str, ...], backbone: str | None, checkpoint: str | None, as_json: bool) -> None:
    """Count the parameters that presets train on a backbone.

    Named backbones are counted without downloading their weights. The featurizer's layer weights and the head are not
    counted. "share" is the trained percentage of the backbone's parameters; on WavLM Base+, full fine-tuning of the
    encoder layers trains 90.1 %.

    Example: elp params -g le -g lora_qv8 -u hubert_base
    """
    if backbone is not None and checkpoint is not None:
        raise ElpError("-u and -k both choose a backbone; remove one of them")
    names = list(dict.fromkeys(adapters)) or preset_names()
    place = checkpoint if checkpoint is not None else DEFAULT if backbone is None else backbone
    total, counts, unfit = (_on_shapes if checkpoint is None else _on_checkpoint)(place, names)
    if adapters and unfit:
        name, reason = next(iter(unfit.items()))
        raise ElpError(f"{name} does not fit {place}: {reason}")
    title = f"{place}: {total:,} parameters"
    if checkpoint is None:
        title += f" ({len(backbone_names())} named backbones; choose one with -u)"
    for name, reason in unfit.items():
        click.echo(f"elp: {name} does not fit: {reason}", err=True)
    if as_json:
        click.echo(json.dumps(counts[names[0]] if len(adapters) == 1 else counts, indent=2))
        return
    click.echo(title)
    click.echo(_table(counts, total))


Counted = tuple[int, dict[str, dict[str, Any]], dict[str, str]]
"""The backbone's total, the counts of each adapter that fits it, and why the others do not fit."""


def _on_shapes(backbone: str, names: list[str]) -> Counted:
    model = architecture(backbone)
    counts, unfit = {}, {}
    for name in names:
        config = load_config(name)
        try:
            counts[name] = count_parameters(config, model)
        except ElpError as error:
            unfit[name] = str(error)
    return model.total, counts, unfit


def _on_checkpoint(place: str, names: list[str]) -> Counted:
    from upstream_elp.launch.registry import register
    from upstream_elp.upstream.fitting import counts_on

    register()
    total, _, counts, unfit = counts_on(place, {name: load_config(name) for name in names})
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
