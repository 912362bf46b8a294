"""``elp backbones``: the supported backbones by family, and why other entries of S3PRL are refused."""

from __future__ import annotations

import json
from typing import Any

import click

from upstream_elp.adapters.registry import method_names
from upstream_elp.backbones.architecture import architecture, backbone_names, other_entries
from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import HUGGING_FACE, OWN, S3PRL, Family

MERGED_INTO = {HUGGING_FACE: "folder of transformers", S3PRL: "checkpoint of S3PRL", OWN: None}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def backbones(as_json: bool) -> None:
    """List the supported backbones by family, and why S3PRL's other entries are not supported.

    Every method works with every family. Methods that only change the backbone's own tensors (lora, layer_norm, bias
    and encoder) can be merged into a plain checkpoint with `elp merge`.

    Example: elp backbones --json
    """
    rows = [_row(family) for family in families().values()]
    if as_json:
        click.echo(json.dumps({"families": rows, "methods": method_names(), "others": other_entries()}, indent=2))
        return
    from tabulate import tabulate

    options = {"tablefmt": "simple", "maxcolwidths": [None, 60, 40]}
    rows = [(row["title"], ", ".join(row["upstreams"]), f"{row['entry']} -k PLACE") for row in rows]
    click.echo(tabulate(rows, headers=["family", "upstreams", "or"], **options))
    click.echo(f"\nmethods (for every family): {', '.join(method_names())}\n")
    rows = [(", ".join(entry["names"]), entry.get("through", "refused"), entry["why"]) for entry in other_entries()]
    options["maxcolwidths"] = [34, 30, 50]
    click.echo(tabulate(rows, headers=["S3PRL's other entries", "here", "why"], **options))


def _row(family: Family) -> dict[str, Any]:
    names = [name for name in backbone_names() if architecture(name).family == family.name]
    return {
        "family": family.name,
        "title": family.title,
        "upstreams": [f"elp_{name}" for name in names],
        "entry": f"elp_{family.hub_local}" if family.format == HUGGING_FACE else "elp_local",
        "merged_into": MERGED_INTO[family.format],
    }
