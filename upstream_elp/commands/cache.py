"""``elp cache``: cached features: fill ahead of a run, list, estimate, bound and clear."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from upstream_elp.base.errors import ElpError
from upstream_elp.commands.run import Untouched

if TYPE_CHECKING:
    from upstream_elp.caching.estimate import Shape
    from upstream_elp.upstream.expert import ElpExpert

CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=CONTEXT)
def cache() -> None:
    """Manage cached features: what the frozen part of a backbone computed for each utterance.

    Runs keep them with `-o config.runner.cache=auto`, in $ELP_CACHE/features (default: ~/.cache/s3prl-elp/features).

    Example: elp cache list
    """


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_(as_json: bool) -> None:
    """List the cached features, those used last first.

    Example: elp cache list --json
    """
    from upstream_elp.caching import folders
    from upstream_elp.caching.identity import features_dir

    rows = [entry.to_dict() for entry in folders.entries(features_dir())]
    if as_json:
        click.echo(json.dumps({"folder": str(features_dir()), "entries": rows}, indent=2))
        return
    from tabulate import tabulate

    if rows:
        click.echo(tabulate(rows, headers="keys", tablefmt="simple"))
    total = sum(row["gigabytes"] for row in rows)
    click.echo(f"{total:.3f} GB in {features_dir()}")


@cache.command(cls=Untouched, add_help_option=False)
def fill(arguments: tuple[str, ...]) -> None:
    """Compute the features of all splits of a run ahead of it; takes the flags of `elp run`."""
    from upstream_elp.launch import filling

    if {"-h", "--help"} & set(arguments) or not arguments:
        click.echo(filling.HELP)
        return
    filling.fill(arguments)


@cache.command()
@click.option("-u", "--upstream", help="Named backbone, such as elp_wavlm_base_plus.")
@click.option("-k", "--checkpoint", help="Checkpoint or folder of a backbone.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="Hours of audio.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=12.0, show_default=True,
              help="Mean length of an utterance.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def estimate(upstream: str | None, checkpoint: str | None, hours: float, seconds: float, as_json: bool) -> None:
    """Estimate the disk that each kind of cache needs.

    With -k, the time that one process needs to fill it is measured on this machine's CPU, without reading audio. Of
    "input_of_layer", it is that of layer 0.

    Example: elp cache estimate -u elp_wavlm_base_plus --hours 100
    """
    from upstream_elp.caching.estimate import filling_hours, sizes

    if (upstream is None) == (checkpoint is None):
        raise ElpError("choose a backbone with either -u or -k")
    if upstream is not None:
        rows = sizes(_shape_of_named(upstream), hours=hours, seconds=seconds)
    else:
        expert = _expert_of(checkpoint)
        rows = sizes(_shape_of(expert), hours=hours, seconds=seconds)
        for row, measured in zip(rows, filling_hours(expert, hours=hours, seconds=seconds), strict=True):
            row["hours to fill"] = measured
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from tabulate import tabulate

    click.echo(tabulate(rows, headers="keys", tablefmt="simple", floatfmt=".2f"))


def _shape_of_named(name: str) -> Shape:
    from upstream_elp.audio.front import STANDARD
    from upstream_elp.backbones.architecture import architecture
    from upstream_elp.caching.estimate import Shape

    model = architecture(name)
    return Shape(model.layers, model.dim, model.cnn_dim, STANDARD.stride)


def _expert_of(place: str) -> ElpExpert:
    from upstream_elp.adapters.config import load_config
    from upstream_elp.launch.registry import register
    from upstream_elp.upstream.build import load_backbone
    from upstream_elp.upstream.expert import ElpExpert

    register()
    return ElpExpert(load_backbone(None, place, False, None)[0], load_config("weighted_sum"), check=False)


def _shape_of(expert: ElpExpert) -> Shape:
    from upstream_elp.caching.estimate import Shape

    family, model = expert.injection.family, expert.get_submodule(expert.injection.model_path)
    (cnn_dim,) = model.get_submodule(family.cnn_norm).normalized_shape
    return Shape(expert.injection.layers, expert.injection.dim, cnn_dim, expert.injection.front.stride)


@cache.command()
@click.argument("gigabytes", type=click.FloatRange(min=0))
def bound(gigabytes: float) -> None:
    """Remove the features used longest ago until the rest fits into GIGABYTES.

    Example: elp cache bound 10
    """
    from upstream_elp.caching import folders
    from upstream_elp.caching.identity import features_dir

    _removed(folders.bound(features_dir(), int(gigabytes * 1e9)))


@cache.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove all cached features.")
def clear(names: tuple[str, ...], everything: bool) -> None:
    """Remove the cached features NAMES, as `elp cache list` shows them.

    Example: elp cache clear pooled-79586505dcb230ae
    """
    from upstream_elp.base.values import did_you_mean
    from upstream_elp.caching import folders
    from upstream_elp.caching.identity import features_dir

    found = {entry.folder.name: entry for entry in folders.entries(features_dir())}
    if everything == bool(names):
        raise ElpError("name the features to remove, as `elp cache list` shows them, or pass --all")
    for name in names:
        if name not in found:
            hint = did_you_mean(name, list(found), then="`elp cache list` shows all")
            raise ElpError(f"there are no cached features {name} in {features_dir()} ({hint})")
    chosen = list(found.values()) if everything else [found[name] for name in dict.fromkeys(names)]
    for entry in chosen:
        folders.remove(entry)
    _removed(chosen)


def _removed(entries: list) -> None:
    for entry in entries:
        click.echo(f"removed {entry.folder} ({entry.size / 1e9:.3f} GB)")
    if not entries:
        click.echo("nothing to remove")
