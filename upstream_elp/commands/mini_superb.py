"""``elp mini-superb``: synthesise small speech corpora offline."""

from pathlib import Path
from typing import Any

import click

from downstream_heads import registry
from upstream_elp.base.errors import ElpError
from upstream_elp.mini.utterances import SIZES

TASKS = {name: task for name, task in registry.tasks().items() if task.synthesised}
SHORT = [task.short for task in TASKS.values()]


@click.command("mini-superb")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--tasks", default=",".join(SHORT), show_default=True, help="Only the corpora of these tasks.")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="small",
    show_default=True,
    help="About 50, 2,500 or 11,000 utterances per task.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--voices", type=int, help="Seed of the speakers, to let others say the same. [default: --seed]")
@click.option("--jobs", type=int, help="Processes at a time; does not change the result. [default: all CPUs]")
@click.option("--snr", type=float, nargs=2, help="Noise range in decibels; by default that of each corpus.")
@click.option("--page", is_flag=True, help="Also write OUT/page.html: counts, balance, spectrograms and sound.")
def mini_superb(
    out: Path,
    tasks: str,
    size: str,
    seed: int,
    voices: int | None,
    jobs: int | None,
    snr: tuple[float, float] | None,
    page: bool,
) -> None:
    """Synthesise mini-SUPERB into the folder OUT: LibriSpeech, VoxCeleb1, IEMOCAP and Fluent Speech Commands.

    The corpora are small and synthetic but use the layouts of the real ones. Use them with `elp run --data OUT` or
    ELP_DATA=OUT. If interrupted, run the command again to continue.

    Example: elp mini-superb data --size tiny
    """
    from upstream_elp.mini.superb import plan_corpora, write_mini_superb

    manifest = write_mini_superb(out, corpora=_corpora(tasks), size=size, seed=seed, voices=voices, jobs=jobs, snr=snr)
    click.echo(_table(manifest))
    if page:
        from upstream_elp.mini.page import write_page

        click.echo(f"page: {write_page(out, plan_corpora(manifest['settings'], manifest['corpora']), manifest)}")


def _corpora(tasks: str) -> list[str]:
    names = [name.strip() for name in tasks.split(",")]
    if unknown := [name for name in names if registry.whole_name(name) not in TASKS]:
        raise ElpError(f"--tasks: mini-SUPERB has no corpus for {unknown[0]!r}; choose from {', '.join(SHORT)}")
    return [TASKS[registry.whole_name(name)].corpus for name in names]


def _table(manifest: dict[str, Any]) -> str:
    from tabulate import tabulate

    rows = [
        (corpus, split, facts["utterances"], facts["speakers"], f"{facts['hours']:.3f}")
        for corpus, record in manifest["corpora"].items()
        for split, facts in record["splits"].items()
    ]
    return tabulate(rows, headers=("corpus", "split", "utterances", "speakers", "hours"), disable_numparse=True)
