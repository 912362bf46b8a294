"""The flag ``--data`` of commands other than ``elp run``."""

from dataclasses import replace
from pathlib import Path

import click

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError


def use_data(folder: Path | None) -> None:
    """Let the current command read the corpora in a folder; None leaves `$ELP_DATA` in force.

    Raises:
        ElpError: there is no such folder.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise ElpError(f"--data {folder}: no such folder")
    chosen = replace(settings.current(), data=str(folder.resolve()))
    click.get_current_context().with_resource(settings.in_force(chosen))
