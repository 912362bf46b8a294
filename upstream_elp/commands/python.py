"""``elp python``: pass every argument to :func:`upstream_elp.launch.program.run`, untouched by click."""

import click

from upstream_elp.commands.run import Untouched
from upstream_elp.launch import program


@click.command(cls=Untouched, add_help_option=False)
def python(arguments: tuple[str, ...]) -> None:
    """Run a Python program in which S3PRL knows our upstreams."""
    program.run(arguments)
