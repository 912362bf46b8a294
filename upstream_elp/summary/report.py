"""Write the report of a sweep: one page, Markdown, tables and pictures, from the sweep's folder only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import plain, write_json, write_text
from upstream_elp.summary import data, reproduce
from upstream_elp.summary.comparisons import compared
from upstream_elp.summary.document import Section, Table, latex_table, markdown_table, to_markdown
from upstream_elp.summary.outcomes import outcomes
from upstream_elp.summary.page import to_html
from upstream_elp.summary.runs import Sweep, read_sweep
from upstream_elp.summary.sections import Found, sections
from upstream_elp.sweep.jobs import DONE

FOLDER = "report"
PAGE, MARKDOWN, JSON = "report.html", "report.md", "report.json"
PICTURES, TABLES = "pictures", "tables"


@dataclass(frozen=True)
class Written:
    """A report that has been written.

    Args:
        page: the HTML page.
        text: the table of results as Markdown, or how far the sweep is.
    """

    page: Path
    text: str


def write(folder: Path, *, out: Path | None = None) -> Written:
    """Write ``report.{html,md,json}``, ``tables``, ``pictures``, ``plan.yaml`` and ``commands.sh``.

    Args:
        folder: the folder of a sweep, which may still run.
        out: the folder of the report; ``report`` in the sweep's by default.

    Raises:
        ElpError: no such folder, not a sweep, no run that has ended, or a folder that is not writable.
    """
    folder = Path(folder).absolute()
    sweep = read_sweep(folder)
    if not any(run.state == DONE for run in sweep.runs):
        raise ElpError(
            f"{folder} must have a run that has ended, but has {sweep.counts}; wait for one, or look at the logs "
            f"({_first_log(sweep)})"
        )
    out = folder / FOLDER if out is None else Path(out).absolute()
    found = Found(sweep, compared(outcomes(sweep), sweep.compare))
    try:
        for each in (out / PICTURES, out / TABLES):
            each.mkdir(parents=True, exist_ok=True)
        return _write(found, out)
    except OSError as error:
        raise ElpError(f"cannot write the report to {out} ({error.strerror}); choose a folder with --out") from error


def _first_log(sweep: Sweep) -> str:
    return str(sweep.runs[0].job.log) if sweep.runs else "there are none"


def _write(found: Found, out: Path) -> Written:
    parts = sections(found, out / PICTURES)
    lead, foot = found.lead, time.strftime("Written %Y-%m-%d %H:%M UTC by elp report.", time.gmtime())
    title = f"Sweep {found.sweep.name}"
    page = write_text(out / PAGE, to_html(title, lead, parts, pictures=out / PICTURES, foot=foot))
    write_text(out / MARKDOWN, to_markdown(title, [Section("About", lead), *parts]))
    write_json(out / JSON, plain(data.everything(found)))
    _write_tables(found, parts, out / TABLES)
    if plan := reproduce.plan_text(found.sweep):
        write_text(out / reproduce.PLAN, plan)
    write_text(out / reproduce.COMMANDS, reproduce.commands(found.sweep))
    results = [block for part in parts for block in part.blocks if isinstance(block, Table) and block.name == "results"]
    text = "\n\n".join(markdown_table(table) for table in results) or f"{found.sweep.counts}; no run is tested yet"
    return Written(page, text)


def _write_tables(found: Found, parts: Sequence[Section], folder: Path) -> None:
    """Write the tables of the page for LaTeX, and the values behind them as CSV; those of an earlier call go."""
    for old in (*folder.glob("[!.]*.tex"), *folder.glob("[!.]*.csv")):  # not what another process is writing
        old.unlink(missing_ok=True)
    for part in parts:
        for block in part.blocks:
            if isinstance(block, Table):
                write_text(folder / f"{block.name}.tex", latex_table(block))
    for name, rows in data.frames(found).items():
        if rows:
            write_text(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
