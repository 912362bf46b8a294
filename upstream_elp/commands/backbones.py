"""``elp backbones``: which backbones there are, what each family supports, and which of S3PRL's are refused."""

from __future__ import annotations

import json
from typing import Any

import click

from upstream_elp.adapters.registry import method_names
from upstream_elp.backbones.architecture import architecture, backbone_names, other_entries
from upstream_elp.backbones.families import FAMILIES

MERGED_INTO = {True: "folder of transformers", False: "checkpoint of S3PRL"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def backbones(as_json: bool) -> None:
    """List the families of backbones with their upstreams, and what is said of S3PRL's other entries.

    Every method works on every family. Methods that only change the backbone's own tensors can be merged into a plain
    copy of it with `elp merge`; of ours these are lora, layer_norm, bias and encoder.
    """
    families = [_family(name) for name in FAMILIES]
    if as_json:
        click.echo(json.dumps({"families": families, "methods": method_names(), "others": other_entries()}, indent=2))
        return
    from tabulate import tabulate

    options = {"tablefmt": "simple", "maxcolwidths": [None, 60, 40]}
    rows = [(row["title"], ", ".join(row["upstreams"]), f"{row['entry']} -k PLACE") for row in families]
    click.echo(tabulate(rows, headers=["family", "upstreams", "or"], **options))
    click.echo(f"\nmethods, on every family: {', '.join(method_names())}\n")
    rows = [(", ".join(entry["names"]), entry.get("through", "refused"), entry["why"]) for entry in other_entries()]
    options["maxcolwidths"] = [34, 30, 50]
    click.echo(tabulate(rows, headers=["S3PRL's other entries", "with us", "because"], **options))


def _family(name: str) -> dict[str, Any]:
    family = FAMILIES[name]
    hugging_face = name.startswith("hf_")
    return {
        "family": name,
        "title": family.title,
        "upstreams": [f"elp_{backbone}" for backbone in backbone_names() if architecture(backbone).family == name],
        "entry": f"elp_{family.hub_local}" if hugging_face else "elp_local",
        "merged_into": MERGED_INTO[hugging_face],
    }
