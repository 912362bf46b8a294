"""``elp sweep``: run a plan of many runs on this machine or on a cluster, and summarise them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.tables import holds_data

if TYPE_CHECKING:
    from upstream_elp.sweep.work import Planner


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the sweep. [default: result/sweeps/NAME]")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time. [default: one per GPU, or per core up to 4]")
@click.option("--gpus", default="", help="GPUs to use, such as 0,1. [default: all]")
@click.option("--per-gpu", type=click.IntRange(min=1), default=1, show_default=True, help="Runs per GPU at a time.")
@click.option("--device", help="cpu or cuda. [default: cuda if available]")
@click.option("--dry-run", is_flag=True, help="Check everything and print the jobs; run nothing.")
@click.option("--status", is_flag=True, help="Print how far a started sweep is; needs neither data nor backbones.")
@click.option("--slurm", help="Submit to SLURM with these options of sbatch, such as partition=gpu,time=08:00:00.")
@click.option(
    "--array-limit", type=click.IntRange(min=1), help="Most jobs at a time on the cluster. [default: no limit]"
)
def sweep(
    plan: Path,
    out: Path | None,
    jobs: int | None,
    gpus: str,
    per_gpu: int,
    device: str | None,
    dry_run: bool,
    status: bool,
    slurm: str | None,
    array_limit: int | None,
) -> None:
    """Run all jobs of PLAN, a file or the name of a packaged plan, and write one report of them.

    Each job is an experiment folder of `elp run`. Jobs that have ended are not run again, and interrupted ones resume:
    call the command again to continue, also after a change of the plan.

    Example: elp sweep methods --dry-run
    """
    from upstream_elp.base import settings
    from upstream_elp.sweep import show
    from upstream_elp.sweep.plan import plan_name, read_plan
    from upstream_elp.sweep.work import Planner

    if array_limit is not None and slurm is None:
        raise ElpError("--array-limit must go with --slurm, but there is none; add --slurm or remove it")
    if slurm is not None and (jobs is not None or gpus):
        raise ElpError(f"--{'jobs' if jobs else 'gpus'} must go without --slurm, which has its own options; remove one")
    name = plan_name(plan)
    folder = (out or Path("result/sweeps") / name).absolute()
    if status:
        click.echo(show.status(folder, name=name))
        return
    read = read_plan(plan)
    from upstream_elp.launch.registry import register

    register()  # reports packages that cannot be imported once, instead of in every run
    chosen = _data(read.data)
    with settings.in_force(replace(settings.current(), data=chosen)):
        planner = Planner(read, folder, data=chosen)
        if dry_run:
            click.echo(show.plan(planner.work()))
        elif slurm is not None:
            from upstream_elp.sweep.run import submit

            said = submit(planner, options=slurm, limit=array_limit, device=device)
            click.echo("nothing is left to submit" if said is None else said)
            if said is None:
                write_report(folder)
        else:
            listed = [gpu.strip() for gpu in gpus.split(",") if gpu.strip()]
            _run(planner, jobs=jobs, gpus=listed, per_gpu=per_gpu, device=device)


def _data(named: str | None) -> str | None:
    """The folder of the corpora: the plan's, or else the user's."""
    from upstream_elp.base import settings

    place = named or settings.current().data
    if place is not None and not holds_data(Path(place)):
        raise ElpError(
            f"data must be the folder with the corpora or a manifest, but there is no folder {place}; correct it in "
            "the plan"
        )
    return None if place is None else str(Path(place).absolute())


def _run(planner: Planner, **places: Any) -> None:
    from upstream_elp.sweep import run

    if problems := carried_out(planner, **places):
        raise run.failed(problems, len(planner.work().jobs))


def carried_out(
    planner: Planner, *, jobs: int | None, gpus: Sequence[str] = (), per_gpu: int = 1, device: str | None
) -> list[str]:
    """Run everything that has not ended on this machine, and write the report.

    A signal ends this process and says how to go on.

    Args:
        planner: the checked plan.
        jobs: runs at a time; None for the default.
        gpus: ids of GPUs; empty for all.
        per_gpu: runs per GPU at a time.
        device: torch device; None for the default.

    Returns:
        One sentence per failed job.
    """
    from upstream_elp.sweep import run
    from upstream_elp.sweep.jobs import DONE, state_of
    from upstream_elp.sweep.launch import Stopped, make_slots

    slots = make_slots(jobs=jobs, gpus=gpus, per_gpu=per_gpu, device=device, processes=planner.plan.processes)
    try:
        problems = run.carry_out(planner, slots)
    except Stopped as stop:
        click.echo(f"elp: {run.how_to_go_on(stop, planner.out)}", err=True)
        sys.exit(128 + stop.number)
    if any(state_of(job) == DONE for job in planner.work().jobs):  # otherwise, what failed is all there is to say
        write_report(planner.out)
    return problems


def write_report(folder: Path, *, out: Path | None = None) -> None:
    """Write the report of a sweep's folder, by default into ``report`` in it, and print its results."""
    from upstream_elp.summary.report import write

    outcome = write(folder, out=out)
    click.echo(f"\n{outcome.text}")
    click.echo(f"report: {outcome.page}, and tables and pictures next to it")
