"""``elp doctor``: show versions, locations, devices, patches of S3PRL and registered names."""

import contextlib
import io
import json
import sys
from pathlib import Path

import click

from downstream_heads import registry
from downstream_heads.contract import FOLDER
from upstream_elp.base import energy, installed, packaged, settings
from upstream_elp.base.errors import ElpError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--names", is_flag=True, help="List S3PRL's own upstreams and tasks too.")
@click.option("--check", is_flag=True, help="Only check that S3PRL is usable; exit with status 2 if it is not.")
@click.option("--versions", is_flag=True, help="Print only the versions, on one line.")
def doctor(as_json: bool, names: bool, check: bool, versions: bool) -> None:
    """Print versions, locations, devices, patches and registered names.

    Attach the output to a bug report.

    Example: elp doctor --json > doctor.json
    """
    if versions:
        click.echo(installed.in_words())
        return
    if check:
        _register_quietly()
        return
    facts = examine()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for line in _lines(facts, names=names):
        click.echo(line)


def examine() -> dict:
    """Collect everything as plain data; ``problem`` says why S3PRL cannot be used, or is None."""
    problem, registered = _register()
    return {
        "versions": installed.versions((*installed.PACKAGES, "soundfile", "safetensors")),
        "places": {"python": sys.executable, "upstream_elp": str(Path(packaged.__file__).parents[1]), **_places()},
        "environment": {settings.VARIABLES[name]: text for name, text in settings.in_words().items()},
        "devices": {} if problem else _devices(),
        "patches": [] if problem else _patches(),
        "names": registered,
        "problem": problem,
    }


def _register_quietly() -> None:
    from upstream_elp.launch.registry import register

    with contextlib.redirect_stdout(io.StringIO()):  # importing S3PRL prints
        register()


def _register() -> tuple[str | None, dict[str, list[str]]]:
    registered: dict[str, list[str]] = {}
    try:
        _register_quietly()
    except ElpError as error:
        return str(error), registered
    from s3prl import hub

    from upstream_elp.host import places

    everything = sorted(hub.options())
    registered["upstreams"] = [name for name in everything if name.startswith("elp_")]
    registered["tasks"] = registry.names()
    registered["stock upstreams"] = [name for name in everything if not name.startswith("elp_")]
    registered["stock tasks"] = places.stock_tasks()
    return None, registered


def _patches() -> list[dict[str, str]]:
    from upstream_elp.host import compat
    from upstream_elp.launch import table

    return compat.report(table.ITEMS)


def _places() -> dict[str, str]:
    from upstream_elp.host import places

    try:
        return {"s3prl": str(places.s3prl_folder()), "downstream_heads": str(FOLDER)}
    except ElpError as error:
        return {"s3prl": str(error)}


def _devices() -> dict:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    identities = [energy.identity(torch.cuda.get_device_properties(index).uuid) for index in range(len(gpus))]
    found, reasons = energy.readable(identities)
    states = {**{counter.kind: "readable" for counter in found}, **reasons}
    counters = {f"energy of {energy.KINDS[kind]}": state for kind, state in states.items()}
    default = "cuda" if torch.cuda.is_available() else "cpu"
    return {"default": default, "gpus": gpus, "threads": torch.get_num_threads(), **counters}


def _lines(facts: dict, *, names: bool) -> list[str]:
    lines = ["versions"]
    lines += [f"  {name:18} {value or 'missing'}" for name, value in facts["versions"].items()]
    lines += ["", "places"] + [f"  {name:18} {value}" for name, value in facts["places"].items()]
    lines += ["", "environment"] + [f"  {name:18} {value or '-'}" for name, value in facts["environment"].items()]
    lines += ["", "devices"] + [f"  {name:18} {_text(value)}" for name, value in facts["devices"].items()]
    lines += ["", "patches (applied in memory when S3PRL is imported)"]
    for patch in facts["patches"]:
        found = f" (here: {patch['found']})" if patch["found"] else ""
        lines += [f"  {patch['state']:11} {patch['name']}: {patch['why']}{found}; not needed with {patch['until']}"]
    shown = {key: value for key, value in facts["names"].items() if names or not key.startswith("stock")}
    lines += ["", "names"] + [f"  {name:18} {_text(value)}" for name, value in shown.items()]
    lines += ["", f"problem: {facts['problem']}" if facts["problem"] else "S3PRL is usable."]
    return lines


def _text(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
