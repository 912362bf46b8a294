"""``elp quickstart``: train several methods on several tasks and compare them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from upstream_elp.base.errors import ElpError
from upstream_elp.commands.sweep import carried_out
from upstream_elp.mini.utterances import SIZES
from upstream_elp.quickstart.plan import FAST_METHODS, FAST_TASKS, METHODS, SYNTHESISED, TASKS

if TYPE_CHECKING:
    from upstream_elp.sweep.plan import Plan

SHORT = ", ".join(task.short for task in TASKS.values())


def _shortly(names: Sequence[str]) -> str:
    return ",".join(TASKS[name].short for name in names)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("result/quickstart"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of corpora. [default: synthesise OUT/data]")
@click.option(
    "--size", type=click.Choice(SIZES), default="small", show_default=True, help="Size of the synthesised corpora."
)
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    help="Checkpoint, or folder in Hugging Face's format. [default: the packaged small WavLM]",
)
@click.option("--tasks", help=f"Any of {SHORT}, with or without elp_. [default: {_shortly(SYNTHESISED)}]")
@click.option("--methods", help=f"Adapter presets, YAML files or fbank. [default: {','.join(METHODS)}]")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps per run. [default: the task's recipe]")
@click.option(
    "--fast",
    is_flag=True,
    help=f"By default only the tasks {_shortly(FAST_TASKS)} and the methods {', '.join(FAST_METHODS)}.",
)
@click.option("--seed", default=0, show_default=True, help="Random seed of training and corpora.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time. [default: number of CPU cores, at most 4]")
@click.option("--device", help="cpu or cuda. [default: cuda if available]")
def quickstart(
    out: Path,
    data: Path | None,
    size: str,
    backbone: Path | None,
    tasks: str | None,
    methods: str | None,
    steps: int | None,
    fast: bool,
    seed: int,
    jobs: int | None,
    device: str | None,
) -> None:
    """Train several methods on several tasks, evaluate them on test, and write a report to OUT/report.

    Without --data and --backbone, it runs offline on small synthetic corpora with a small WavLM that was pretrained on
    synthetic speech. If interrupted, run the command again to continue.

    Example: elp quickstart --tasks asr,sv --methods weighted_sum,lora_qv8
    """
    from upstream_elp.launch.registry import register
    from upstream_elp.quickstart.plan import check_names, check_places, check_synthesised, make_plan

    chosen = _split(methods) if methods is not None else list(FAST_METHODS if fast else METHODS)
    wanted = _split(tasks) if tasks is not None else list(FAST_TASKS if fast else SYNTHESISED)
    names = check_names(wanted, chosen)
    if data is None:
        check_synthesised(names)
    register()  # reports packages that cannot be imported once, instead of in every run
    check_places(data, backbone)  # before anything is made
    note = _describe(data, backbone, size)
    _make_folder(out)
    data = data or _synthesise(out / "data", names, size, seed)
    backbone = backbone or _pretrained(out)
    plan = make_plan(tasks=names, methods=chosen, backbone=backbone, data=data, steps=steps, seed=seed, note=note)
    _run(plan, out, data, jobs=jobs, device=device)


def _run(plan: Plan, out: Path, data: Path, *, jobs: int | None, device: str | None) -> None:
    """Carry out the plan as a sweep, and write its report."""
    from upstream_elp.base import settings
    from upstream_elp.sweep import run
    from upstream_elp.sweep.work import Planner

    ours = replace(settings.current(), data=str(data.absolute()))
    if ours.cache is None:  # features that the runs share, for as long as there are runs
        ours = replace(ours, cache=str((out / "cache").absolute()))
    with settings.in_force(ours):
        planner = Planner(plan, out.absolute(), data=ours.data)
        problems = carried_out(planner, jobs=jobs, device=device)
        count = len(planner.work().jobs)
    if problems:
        raise run.failed(problems, count)
    shutil.rmtree(out / "cache", ignore_errors=True)  # if a run has failed, the next call needs them


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _describe(data: Path | None, backbone: Path | None, size: str) -> str:
    corpora = f"corpora in {data}" if data else f"synthetic mini-SUPERB (size {size}; it is not SUPERB)"
    model = f"the backbone {backbone.name}" if backbone else "the packaged WavLM, pretrained on synthetic speech"
    return f"Measured on {corpora} with {model}."


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElpError(f"cannot write to {out}: {error.strerror}") from error


def _synthesise(folder: Path, tasks: Sequence[str], size: str, seed: int) -> Path:
    from upstream_elp.mini.superb import write_mini_superb

    write_mini_superb(folder, corpora=[TASKS[name].corpus for name in tasks], size=size, seed=seed)
    return folder


def _pretrained(out: Path) -> Path:
    from upstream_elp.mini.packed import PRETRAINED, unpack, write_packed

    return write_packed(unpack(PRETRAINED), out / "backbone.pt")
