"""``elp score``: the site's numbers for a zip of predictions, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upstream_elp.commands.folders import use_data

if TYPE_CHECKING:
    from upstream_elp.submission.archive import Opened
    from upstream_elp.submission.layout import Part
    from upstream_elp.submission.truth import Truth


@click.command()
@click.argument("archive", metavar="OUT.zip", type=click.Path(path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), help="Folder of true answers, named as runs write them.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of corpora. [default: $ELP_DATA]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all digits instead of a table.")
def score(archive: Path, truth: Path | None, data: Path | None, as_json: bool) -> None:
    """Score OUT.zip, a submission to SUPERB's public set, with the site's own arithmetic.

    True answers are from --truth, or else from the corpora. Speaker verification needs neither, as the names of
    SUPERB's trials say who speaks. An incomplete file is refused; the site would silently score a part of it.

    Example: elp score submission.zip --data /corpora
    """
    from upstream_elp.submission import archive as zips
    from upstream_elp.submission import scoring
    from upstream_elp.submission.truth import comparability

    use_data(data)
    opened = zips.open_archive(archive)
    truths = _truths(opened, truth)
    scores = scoring.score(opened.parts, truths)
    other = comparability(truths)
    remarks = [*([other] if other else []), *(f"{name} is not scored here" for name in opened.others)]
    if as_json:
        click.echo(json.dumps(scoring.to_dict(scores, remarks), indent=2))
        return
    from tabulate import tabulate

    found = scoring.points(scores)
    rows = [
        (one.name, f"{one.value:.2f}", f"{len(one.items):,}", _points(found, one.name), one.interval().margin)
        for one in scores
    ]
    rows += [("SUPERB points", "", "", _points(found, "mean"), "")] if "mean" in found else []
    headers, align = ("metric", "%", "items", "points", "standard error and interval"), ("right",) * 3
    click.echo(tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *align, "left")))
    for remark in remarks:
        click.echo(f"note: {remark}")


def _points(found: dict[str, float], name: str) -> str:
    return f"{found[name]:.1f}" if name in found else ""


def _truths(opened: Opened, folder: Path | None) -> dict[Part, Truth]:
    """Return the true answers; without any source, those of SV from the names of the trials."""
    from upstream_elp.base import settings
    from upstream_elp.submission.archive import truths_of
    from upstream_elp.submission.lines import read_predictions
    from upstream_elp.submission.truth import from_names

    if folder is not None or settings.current().data:
        return truths_of(opened.parts, folder)
    found: dict[Part, Truth] = {}
    for part, content in opened.parts.items():
        if part.task == "sv":
            found[part] = from_names(read_predictions(content, part, where=part.path), part, where=part.path)
        else:
            found |= truths_of({part: None}, None)
    return found
