"""``elp report``: write the report of a sweep, or those of experiments again, and compare several experiments."""

from __future__ import annotations

import os
from pathlib import Path

import click

FORMATS = ("markdown", "csv")


@click.command()
@click.argument("expdirs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), help="Format of the comparison. [default: markdown]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File for the comparison, or folder for the report of a sweep. [default: standard output, SWEEP/report]",
)
def report(expdirs: tuple[Path, ...], form: str | None, out: Path | None) -> None:
    """Write the report of a sweep, or of experiments.

    If EXPDIR is the folder of a sweep or of a quickstart, write report.html with all results, the same as Markdown, and
    tables and pictures for papers. The sweep may still run.

    Otherwise, write results.json, curves.png and layer_weights.{png,csv} of each EXPDIR again, and compare several.

    For one experiment, print its table. For several, print one table per task with the metrics of the best
    checkpoints, and the mean over the folds of emotion recognition.

    Example: elp report result/sweeps/methods
    """
    from upstream_elp.base.errors import counted
    from upstream_elp.experiment.comparison import compare, to_markdown
    from upstream_elp.experiment.report import rewrite, table
    from upstream_elp.summary.runs import is_sweep

    if sweeps := [expdir for expdir in expdirs if is_sweep(expdir)]:
        _sweep(sweeps[0], expdirs, form, out)
        return
    form = form or "markdown"
    results = {expdir: rewrite(expdir) for expdir in dict.fromkeys(expdirs)}
    if len(results) == 1 and out is None and form == "markdown":
        click.echo(table(next(iter(results.values()))))
        return
    frame = compare(dict(zip(_names(list(results)), results.values(), strict=True)))
    text = to_markdown(frame) + "\n" if form == "markdown" else frame.to_csv(index=False)
    if out is None:
        click.echo(text, nl=False)
        return
    _write(out, text)
    click.echo(f"{out}: {counted(len(results), 'experiment')}")


def _sweep(folder: Path, expdirs: tuple[Path, ...], form: str | None, out: Path | None) -> None:
    from upstream_elp.base.errors import ElpError
    from upstream_elp.commands.sweep import write_report

    if len(expdirs) > 1:
        raise ElpError(f"{folder} is the folder of a sweep and must be the only one, but there are {len(expdirs)}; "
                       "name one sweep, or only experiments")  # fmt: skip
    if form is not None:
        raise ElpError(f"--format must go without a sweep such as {folder}, whose report has all formats; remove it")
    write_report(folder, out=out)


def _names(expdirs: list[Path]) -> list[str]:
    """The folders' paths without their common beginning."""
    paths = [expdir.resolve() for expdir in expdirs]
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(shared).as_posix() for path in paths]


def _write(out: Path, text: str) -> None:
    from upstream_elp.base.errors import ElpError
    from upstream_elp.base.files import whole_file

    try:
        with whole_file(out, encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise ElpError(f"--out {out} cannot be written: {error.strerror or error}") from error
