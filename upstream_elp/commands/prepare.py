"""``elp prepare``: check a corpus in its official layout and write the tables that the tasks read."""

import json
from pathlib import Path
from types import ModuleType

import click

from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import write_json
from upstream_elp.corpora.preparation import default_out
from upstream_elp.corpora.registry import modules

Folder = click.Path(file_okay=False, path_type=Path)


class CorpusGroup(click.Group):
    """A group that lists the known corpora if the corpus is unknown."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args and args[0] not in self.commands:
            ctx.fail(f"unknown corpus {args[0]!r}; the corpora are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=CorpusGroup, context_settings={"help_option_names": ["-h", "--help"]})
def prepare() -> None:
    """Check a corpus in its official layout and write the tables that the tasks read.

    One run reports every problem of the corpus. If there are any, no table is written and the exit status is 2.
    Headers are cached, so an interrupted run continues where it stopped.

    Example: elp prepare librispeech /corpora/LibriSpeech
    """


def _command(module: ModuleType) -> click.Command:
    """The command of a corpus, as its module describes it."""
    offer = module.CORPUS.command

    def run(root: Path, out: Path | None, **options: object) -> None:
        _run(module, root, out, **options)

    params: list[click.Parameter] = []
    if offer.splits:
        choice = click.Choice(offer.splits)
        params.append(
            click.Option(["--split", "splits"], multiple=True, type=choice, help="Split to prepare; repeatable.")
        )
    if offer.trials:
        path = click.Path(path_type=Path)
        params.append(click.Option(["--trials"], multiple=True, type=path, help="Trial list to prepare; repeatable."))
    deep = "Decode all audio to find damaged and truncated files (slow)."
    params += [
        click.Argument(["root"], type=Folder),
        click.Argument(["out"], type=Folder, required=False),
        click.Option(["--jobs"], type=click.IntRange(min=1), default=8, show_default=True, help="Reading threads."),
        click.Option(["--decode"], is_flag=True, help=deep),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the full report as JSON."),
    ]
    if offer.skips:
        text = "Skip files with problems and write the tables without them."
        params.append(click.Option(["--skip-broken"], is_flag=True, help=text))
    example = f"Example: elp prepare {offer.name} ROOT --json > report.json"
    return click.Command(
        offer.name, callback=run, params=params, help=offer.text, short_help=offer.summary, epilog=example
    )


def _run(
    module: ModuleType,
    root: Path,
    out: Path | None,
    *,
    as_json: bool,
    jobs: int,
    decode: bool,
    skip_broken: bool = False,
    **chosen: object,
) -> None:
    """Prepare one corpus, print and save the report, and exit with status 2 if problems prevent the tables."""
    offer = module.CORPUS.command
    out = default_out(offer.name, root) if out is None else out
    report = module.prepare(root, out, options=Options(jobs=jobs, decode=decode, skip_broken=skip_broken), **chosen)
    values = report.to_dict(skip_broken=skip_broken)
    kept = write_json(out / f"{offer.name}-report.json", values)
    click.echo(json.dumps(values, indent=1, ensure_ascii=False) if as_json else report.to_text())
    if report.blocked(skip_broken=skip_broken):
        helps = offer.skips and any(problem.skippable for problem in report.problems)
        more = "; --skip-broken skips single files" if helps else ""
        count = counted(len(report.problems), "problem")
        raise ElpError(f"{root}: {count}, no table was written; the full list is in {kept}{more}")
    if not as_json and report.problems:
        click.echo(f"skipped {counted(len(report.broken()), 'file')} with problems")


for _module in modules().values():
    if _module.CORPUS.command is not None:
        prepare.add_command(_command(_module))
