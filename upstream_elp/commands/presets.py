"""``elp presets``: what adapter presets there are, and what one says."""

from __future__ import annotations

import click
import yaml

from upstream_elp.adapters.config import load_config, preset_names


@click.command()
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the adapter presets, or print the preset (or YAML file) NAME with everything it inherits."""
    if name is not None:
        click.echo(yaml.safe_dump(load_config(name).to_dict(), sort_keys=False, width=100), nl=False)
        return
    from tabulate import tabulate

    rows = [(preset, load_config(preset).features, load_config(preset).description) for preset in preset_names()]
    click.echo(tabulate(rows, headers=["preset", "features", "what it trains"], tablefmt="github"))
