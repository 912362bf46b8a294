"""The console command ``elp``: a table of commands, each imported only when it is used."""

import importlib
import sys

import click

from upstream_elp.base.console import errors_in_one_line
from upstream_elp.base.version import __version__

COMMANDS = {
    "run": ("upstream_elp.commands.run:run", "Train or evaluate with S3PRL's run_downstream flags."),
    "python": ("upstream_elp.commands.python:python", "Run another toolkit's program with our upstreams known."),
    "doctor": ("upstream_elp.commands.doctor:doctor", "Print versions, patches, devices and registered names."),
    "params": ("upstream_elp.commands.params:params", "Count the parameters that a preset trains on a backbone."),
    "backbones": ("upstream_elp.commands.backbones:backbones", "List the supported backbones by family."),
    "presets": ("upstream_elp.commands.presets:presets", "List the adapter presets, or print one."),
    "report": ("upstream_elp.commands.report:report", "Write the report of a sweep, or of experiments."),
    "export": ("upstream_elp.commands.export:export", "Export a checkpoint's adapters and head to a folder."),
    "infer": ("upstream_elp.commands.infer:infer", "Transcribe, classify or compare audio files."),
    "merge": ("upstream_elp.commands.merge:merge", "Merge trained weights into a plain backbone checkpoint."),
    "submit": ("upstream_elp.commands.submit:submit", "Pack predictions for SUPERB, checked and always the same."),
    "score": ("upstream_elp.commands.score:score", "Score a submission with SUPERB's arithmetic, offline."),
    "push": ("upstream_elp.commands.push:push", "Publish an adapter folder on Hugging Face's hub."),
    "fetch": ("upstream_elp.commands.fetch:fetch", "Download a named backbone ahead of time."),
    "cache": ("upstream_elp.commands.cache:cache", "Fill, list, estimate, bound or clear cached features."),
    "check": ("upstream_elp.commands.check:check", "List every problem of a task's data."),
    "split": ("upstream_elp.commands.split:split", "Draw the splits that a manifest of your own data lacks."),
    "prepare": ("upstream_elp.commands.prepare:prepare", "Check a corpus and write the tables that tasks read."),
    "mini-superb": ("upstream_elp.commands.mini_superb:mini_superb", "Synthesise small corpora offline."),
    "mini-backbone": ("upstream_elp.commands.mini_backbone:mini_backbone", "Write a small random backbone offline."),
    "quickstart": (
        "upstream_elp.commands.quickstart:quickstart",
        "Train several methods on several tasks, and compare.",
    ),
    "sweep": ("upstream_elp.commands.sweep:sweep", "Run a plan of many runs, here or on a cluster."),
}


class LazyGroup(click.Group):
    """A group that imports commands on use, so that ``elp --help`` does not load torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args and args[0] not in COMMANDS:
            ctx.fail(f"unknown command {args[0]!r}; the commands are: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="elp")
def group() -> None:
    """Adapters for S3PRL's frozen speech models.

    Example: elp quickstart --size tiny
    """


def main() -> None:
    """Run the command line and exit; a user's mistake gives one sentence and exit status 2."""
    try:
        with errors_in_one_line():
            status = group.main(prog_name="elp", standalone_mode=False)
    except click.Abort:  # Ctrl-C
        click.echo("elp: aborted", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
