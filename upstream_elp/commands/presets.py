"""``elp presets``: list the adapter presets, or print one."""

from __future__ import annotations

import click
import yaml

from upstream_elp.adapters.config import load_config, preset_names, stated


@click.command()
@click.argument("name", required=False)
@click.option("--full", is_flag=True, help="With NAME: print options with default values too.")
def presets(name: str | None, full: bool) -> None:
    """List the adapter presets, or print the preset or YAML file NAME with everything it inherits.

    Example: elp presets lora_qv8 --full
    """
    if full and name is None:
        raise click.UsageError("--full needs the NAME of a preset or YAML file")
    if name is not None and full:
        click.echo(yaml.safe_dump(load_config(name).to_dict(), sort_keys=False, width=100), nl=False)
        return
    if name is not None:
        if name not in preset_names():
            load_config(name)
        click.echo(yaml.safe_dump(stated(name), sort_keys=False, width=100), nl=False)
        return
    from tabulate import tabulate

    rows = [(said["name"], said["features"], said["description"]) for said in map(stated, preset_names())]
    click.echo(tabulate(rows, headers=["preset", "features", "what it trains"], tablefmt="github"))
