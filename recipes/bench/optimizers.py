"""Processor time of an optimizer step on the trained tensors of a Base-shaped backbone: default, foreach and fused.

The three take turns on the same tensors with random gradients. The last column is the largest difference between a
parameter after the default steps and after the fused ones, with a learning rate of 1e-4.

    python recipes/bench/optimizers.py
    python recipes/bench/optimizers.py --device cuda --methods full_finetune --optimizers Adam
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from shared import Clock, take_turns
from tabulate import tabulate

if TYPE_CHECKING:
    from torch import Tensor

KINDS: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
OPTIONS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}


@click.command()
@click.option("--methods", default="le,full_finetune", show_default=True, help="Adapter presets.")
@click.option("--optimizers", default="Adam,AdamW,SGD", show_default=True, help="Classes of torch.optim.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--repeats", default=7, show_default=True, help="Timed steps of each kind.")
def main(methods: str, optimizers: str, device: str, threads: int, repeats: int) -> None:
    """Time the steps of optimizers."""
    import torch

    torch.set_num_threads(threads)
    rows = []
    for method in methods.split(","):
        shapes = trained_shapes(method)
        for name in optimizers.split(","):
            rows.append([method, name, *measure(shapes, name, device, repeats)])
    click.echo(f"{device}, {threads} threads, {repeats} repeats: milliseconds (min-max)\n")
    header = ["trained", "optimizer", *KINDS, "default / fused", "difference"]
    click.echo(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))


def trained_shapes(method: str) -> list[tuple[int, ...]]:
    """The shapes of a preset's trained tensors."""
    import upstream_elp
    from upstream_elp.adapters.config import load_config
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options

    upstream_elp.register()
    from s3prl import hub

    with tempfile.TemporaryDirectory() as folder:
        path = write_backbone(Path(folder) / "backbone.pt", family="wavlm", **size_options("base", "wavlm"))
        upstream = hub.elp_custom(ckpt=str(path), model_config=load_config(method).to_dict())
    return [tuple(parameter.shape) for parameter in upstream.parameters() if parameter.requires_grad]


def measure(shapes: list[tuple[int, ...]], name: str, device: str, repeats: int) -> list[str]:
    """The cells of one row after its first two."""
    import torch

    parameters: dict[str, list[Tensor]] = {}
    steps = {}
    for kind, options in KINDS.items():
        torch.manual_seed(0)
        parameters[kind] = [torch.nn.Parameter(torch.randn(shape).to(device)) for shape in shapes]
        for parameter in parameters[kind]:
            parameter.grad = torch.randn(parameter.shape).to(device)
        made = getattr(torch.optim, name)(parameters[kind], lr=1e-4, **OPTIONS.get(name, {}), **options)
        steps[kind] = made.step
    times = take_turns(steps, Clock(device), repeats=repeats, warmup=1)
    cells = [
        f"{statistics.median(t):.1f} ({min(t):.1f}-{max(t):.1f})" for t in ([1000 * s for s in times[k]] for k in KINDS)
    ]
    ratios = [one / other for one, other in zip(times["default"], times["fused"], strict=True)]
    pairs = zip(parameters["default"], parameters["fused"], strict=True)
    difference = max(float((one - other).detach().abs().max()) for one, other in pairs)
    return [*cells, f"{statistics.median(ratios):.1f}", f"{difference:.0e}"]


if __name__ == "__main__":
    main()
