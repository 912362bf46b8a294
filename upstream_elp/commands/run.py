"""``elp run``: pass every argument to :func:`upstream_elp.launch.start.run`, untouched by click."""

import click

from upstream_elp.base.ranks import end_rank
from upstream_elp.launch import start


class Untouched(click.Command):
    """A command whose arguments click neither parses nor reorders."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


@click.command(cls=Untouched, add_help_option=False)
def run(arguments: tuple[str, ...]) -> None:
    """Train, evaluate or infer with S3PRL's run_downstream flags."""
    start.adopt_main()
    start.run(arguments)
    end_rank()
