"""``elp check``: list every problem of a task's data before training."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

import click

from downstream_heads import registry
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import check_writable, write_json
from upstream_elp.commands.folders import use_data

SHORT = ", ".join(task.short for task in registry.tasks().values())


@click.command()
@click.option(
    "-d", "--downstream", "task", required=True, metavar="TASK", help=f"One of {SHORT}, with or without elp_."
)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Task config. [default: the task's own]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of corpora, or a manifest. [default: $ELP_DATA]")
@click.option("-v", "--variant", help="Variant of the task, e.g. fold3 for elp_er.")
@click.option("-o", "--override", help="config.PATH.TO.KEY=VALUE as in `elp run`; separate several with ,,")
@click.option(
    "-t", "--split", "splits", multiple=True, help="Split to check; repeatable. [default: all that a run uses]"
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Reading threads."
)
@click.option("--quick", is_flag=True, help="Read headers only; do not decode the audio.")
@click.option(
    "--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write the full report to this file."
)
@click.option("--shown", type=click.IntRange(min=1), default=10, show_default=True, help="Problems shown per kind.")
def check(
    task: str,
    config: Path | None,
    data: Path | None,
    variant: str | None,
    override: str | None,
    splits: tuple[str, ...],
    jobs: int,
    quick: bool,
    report: Path | None,
    shown: int,
) -> None:
    """Check the data that `elp run -d TASK` would use: audio, transcripts, labels, trials and lengths.

    All audio is decoded unless you pass --quick. Results are cached per file in $ELP_CACHE (default:
    ~/.cache/s3prl-elp), so a second check and the start of `elp run` only read files that have changed. The exit
    status is 1 if there are problems.

    Example: elp check -d asr --data /corpora
    """
    from upstream_elp.audio.headers import Options
    from upstream_elp.host.override import overridden
    from upstream_elp.launch import arguments, recipes
    from upstream_elp.launch.data import examine, refuse_idle

    task = registry.whole_name(task)
    if task not in registry.names():
        raise ElpError(
            f"-d {task} cannot be checked; choose one of {', '.join(registry.names())}, or check the corpus of one of "
            "S3PRL's tasks with elp prepare"
        )
    if report is not None:
        check_writable(report, flag="--json")
    use_data(data, manifests=True)
    args = Namespace(config=None if config is None else str(config), downstream=task, override=override)
    content = recipes.read(arguments.config(args, None))
    content.pop("methods", None)  # per-adapter learning rates do not affect the data
    arguments.overridden(override, args, content)
    refuse_idle(task, content, named=overridden(override, block="config"))
    found = examine(task, content, splits=splits, variant=variant, options=Options(jobs=jobs, decode=not quick))
    if report is not None:
        write_json(report, found.to_dict())
    where = f"; the full list is in {report}" if report else "; --json FILE writes the full list"
    click.echo(found.to_text(shown=shown, rest=where))
    problems = len(found.survey.problems)
    click.echo(f"{counted(problems, 'problem')}{where}" if problems else "no problems")
    sys.exit(1 if problems else 0)
