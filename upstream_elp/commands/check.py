"""``elp check``: every problem of a task's data, in one list, before any training."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import click

from downstream_heads import registry
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import check_writable, write_json

SHORT = ", ".join(task.short for task in registry.tasks().values())


@click.command()
@click.option("-d", "--downstream", "task", required=True, metavar="TASK", help=f"{SHORT}; elp_asr … is the same.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Task config. [default: the task's own]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of corpora. [default: $ELP_DATA]")
@click.option("-v", "--variant", help="Variant of the task, such as fold3 of elp_er.")
@click.option("-o", "--override", help="config.PATH.TO.KEY=VALUE, several joined by ,, as in elp run.")
@click.option("-t", "--split", "splits", multiple=True, help="One split; repeatable. [default: all that a run uses]")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Threads.")
@click.option("--quick", is_flag=True, help="Read headers only, do not decode.")
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write everything found here.")
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
    """Check the data that `elp run -d TASK` would use: audio, transcripts, labels, trials, lengths.

    All audio is decoded unless --quick is given. What was read is remembered (below $ELP_CACHE or ~/.cache/s3prl-elp),
    file by file, so that a second check and the start of `elp run` read only what has changed. The exit status is 1 if
    there are problems.
    """
    from upstream_elp.audio.headers import Options
    from upstream_elp.launch import arguments, recipes
    from upstream_elp.launch.data import examine

    task = registry.whole_name(task)
    if task not in registry.names():
        corpora = "elp prepare checks the corpora of S3PRL's own tasks"
        raise ElpError(f"-d {task}: only {', '.join(registry.names())} can be checked; name one of them, or {corpora}")
    if report is not None:
        check_writable(report, flag="--json")
    if data is not None:
        chosen = replace(settings.current(), data=str(arguments.folder("--data", data).resolve()))
        click.get_current_context().with_resource(settings.in_force(chosen))
    args = Namespace(config=None if config is None else str(config), downstream=task, override=override)
    content = recipes.read(arguments.config(args, None))
    content.pop("methods", None)  # learning rates by adapter, which the data do not depend on
    arguments.overridden(override, args, content)
    found = examine(task, content, splits=splits, variant=variant, options=Options(jobs=jobs, decode=not quick))
    if report is not None:
        write_json(report, found.to_dict())
    where = f"; the whole list is in {report}" if report else "; --json FILE writes the whole list"
    click.echo(found.to_text(shown=shown, rest=where))
    problems = len(found.survey.problems)
    click.echo(f"{counted(problems, 'problem')}{where}" if problems else "no problems")
    sys.exit(1 if problems else 0)
