"""The flag ``--data`` of commands other than ``elp run``."""

from dataclasses import replace
from pathlib import Path

import click

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.tables import holds_data


def use_data(place: Path | None, *, manifests: bool = False) -> None:
    """Let the current command read the corpora in a folder; None leaves `$ELP_DATA` in force.

    Args:
        place: the folder.
        manifests: whether it may also be a manifest of own data.

    Raises:
        ElpError: there is no such folder or manifest.
    """
    if place is None:
        return
    if not (holds_data(place) if manifests else place.is_dir()):
        raise ElpError(f"--data {place}: no such folder{' or manifest (a .csv or .jsonl file)' if manifests else ''}")
    chosen = replace(settings.current(), data=str(place.resolve()))
    click.get_current_context().with_resource(settings.in_force(chosen))
