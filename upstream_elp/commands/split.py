"""``elp split``: draw the splits that a manifest of own data lacks."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)
SHARE = click.FloatRange(0, 0.9)


@click.command()
@click.argument("manifest", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.argument("out", type=FILE)
@click.option("--dev", type=SHARE, default=0.1, show_default=True, help="Share of the rows for dev.")
@click.option("--test", type=SHARE, default=0.1, show_default=True, help="Share of the rows for test.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
def split(manifest: Path, out: Path, dev: float, test: float, seed: int) -> None:
    """Write MANIFEST to OUT with the splits dev and test that it lacks, drawn from its rows of train.

    A row without a split counts as train. All rows of a speaker get the same split; without a column speaker, all
    rows of a file do. At least two speakers are drawn for each split. The draw depends only on the seed and the names.

    Example: elp split mine.csv split.csv --test 0.2
    """
    from upstream_elp.corpora.splitting import draw_splits

    found = draw_splits(manifest, out, shares={"test": test, "dev": dev}, seed=seed)
    for name, rows in found.rows.items():
        click.echo(f"{name}: {rows} rows, {found.groups[name]} values of {found.by}")
    click.echo(f"written to {out} (drawn by {found.by}, seed {seed})")
