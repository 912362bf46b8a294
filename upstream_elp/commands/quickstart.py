"""``elp quickstart``: train several methods on several tasks and compare them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from upstream_elp.base.errors import ElpError
from upstream_elp.mini.sizes import S3PRL_FAMILIES
from upstream_elp.mini.utterances import SIZES
from upstream_elp.quickstart.jobs import METHODS, SYNTHESISED, TASKS

SHORT = ", ".join(task.short for task in TASKS.values())
WIDTH = 192
"""Width of the random backbone: cheap on a CPU, and a third of it is a multiple of 8."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("result/quickstart"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of corpora. [default: synthesise OUT/data]")
@click.option(
    "--size", type=click.Choice(SIZES), default="small", show_default=True, help="Size of the synthesised corpora."
)
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    help="Checkpoint, or folder in Hugging Face's format. [default: write a small random one to OUT]",
)
@click.option(
    "--family",
    type=click.Choice(S3PRL_FAMILIES),
    default="wavlm",
    show_default=True,
    help="Family of the random backbone.",
)
@click.option(
    "--tasks", default=",".join(SYNTHESISED), show_default=True, help=f"Any of {SHORT}, with or without elp_."
)
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Adapter presets or YAML files.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps per run. [default: the task's recipe]")
@click.option("--seed", default=0, show_default=True, help="Random seed of training, corpora and backbone.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time. [default: number of CPU cores, at most 4]")
@click.option("--device", help="cpu or cuda. [default: cuda if available]")
def quickstart(
    out: Path,
    data: Path | None,
    size: str,
    backbone: Path | None,
    family: str,
    tasks: str,
    methods: str,
    steps: int | None,
    seed: int,
    jobs: int | None,
    device: str | None,
) -> None:
    """Train several methods on several tasks, evaluate them on test, and write a table and plots to OUT.

    Without --data and --backbone, it runs offline on small synthetic corpora with a small backbone with random weights.
    If interrupted, run the command again to continue.

    Example: elp quickstart --tasks asr,sv --methods elp,lora_qv8
    """
    from upstream_elp.launch.registry import register
    from upstream_elp.quickstart.jobs import check_names, check_places, check_synthesised, make_jobs
    from upstream_elp.quickstart.launch import run_jobs
    from upstream_elp.quickstart.summary import write_report

    names = check_names(_split(tasks), _split(methods))
    if data is None:
        check_synthesised(names)
    register()  # reports packages that cannot be imported once, instead of in every run
    check_places(data, backbone)  # before anything is made
    note = _describe(data, backbone, family, size)
    _make_folder(out)
    plan = make_jobs(
        out=out,
        data=data or _synthesise(out / "data", size, seed),
        backbone=backbone or _random_backbone(out, family, seed),
        tasks=_split(tasks),
        methods=_split(methods),
        steps=steps,
        seed=seed,
        device=device or _device(),
    )
    problems = run_jobs(plan, workers=jobs or min(4, os.cpu_count() or 1), cache=out / "cache")
    if any(job.tested() for job in plan):
        click.echo("\n" + write_report(plan, out, note=note))
        click.echo(f"tables and plots: {out}/results.md, .csv, .json, curves.png, layer_weights.png")
    if not problems:  # otherwise the next call needs them
        shutil.rmtree(out / "cache", ignore_errors=True)
    else:
        raise ElpError(f"{len(problems)} of {len(plan)} runs failed (the others are kept): {'; '.join(problems)}")


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _describe(data: Path | None, backbone: Path | None, family: str, size: str) -> str:
    corpora = f"corpora in {data}" if data else f"synthetic mini-SUPERB (size {size}; it is not SUPERB)"
    model = f"backbone {backbone.name}" if backbone else f"a small {family} backbone with random, untrained weights"
    return f"Measured on {corpora} with {model}; one seed."


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElpError(f"cannot write to {out}: {error.strerror}") from error


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _synthesise(folder: Path, size: str, seed: int) -> Path:
    from upstream_elp.mini.superb import write_mini_superb

    write_mini_superb(folder, size=size, seed=seed)
    return folder


def _random_backbone(out: Path, family: str, seed: int) -> Path:
    from upstream_elp.mini.backbone import write_backbone

    path = out / f"backbone-{family}-seed{seed}.pt"
    return path if path.exists() else write_backbone(path, family=family, dim=WIDTH, seed=seed)
