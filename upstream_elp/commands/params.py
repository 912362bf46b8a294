"""``elp params``: count trained and frozen parameters, from shapes alone."""

from __future__ import annotations

import json
from typing import Any

import click

from upstream_elp.config import load_config, preset_names
from upstream_elp.shapes import architecture, backbone_names, count_parameters


@click.command()
@click.option("-g", "--adapter", help="Preset name or YAML file; without it, every preset.")
@click.option("-u", "--backbone", default="wavlm_base_plus", show_default=True, help="Named backbone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def params(adapter: str | None, backbone: str, as_json: bool) -> None:
    """Count the parameters that a preset trains on a named backbone, without its weights.

    The featurizer's layer weights and the head are not counted. "share" is trained parameters in per cent of the
    backbone's, of which 90.1 are the encoder layers that full fine-tuning trains on WavLM Base+.
    """
    model = architecture(backbone)
    counts = {name: count_parameters(load_config(name), model) for name in ([adapter] if adapter else preset_names())}
    if as_json:
        click.echo(json.dumps(counts[adapter] if adapter else counts, indent=2))
        return
    click.echo(f"{model.name}: {model.total:,} parameters ({len(backbone_names())} named backbones, see -u)")
    click.echo(_table(counts, model.total))


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
