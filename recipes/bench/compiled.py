"""What torch.compile would gain: one encoder layer with adapters, compiled and plain, forward and backward.

    python recipes/bench/compiled.py                                  # WavLM and HuBERT, fp32 and bf16, on the CPU
    python recipes/bench/compiled.py --families hubert --precisions bf16 --lengths 100,150,200

The layer is that of a Base-shaped backbone with random weights and the preset's adapters. Waves of several lengths take
turns, as a compiled layer must not be compiled again for each of them. The script prints the time to compile, the ratio
of a step's processor time to that of the plain layer, and the largest difference of the output and of the gradients,
relative to the largest value; "NaN" if a gradient is not a number.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from peers import Names

BATCH, REPEATS = 4, 5


@click.command(help=__doc__)
@click.option("--families", type=Names(("wavlm", "hubert")), default="wavlm,hubert", show_default=True)
@click.option("--precisions", type=Names(("fp32", "bf16")), default="fp32,bf16", show_default=True)
@click.option("--preset", default="le", show_default=True)
@click.option("--lengths", default="199,149,174", show_default=True, help="Frames of the batches, which take turns.")
@click.option("--threads", default=1, show_default=True)
def main(families: tuple[str, ...], precisions: tuple[str, ...], preset: str, lengths: str, threads: int) -> None:
    import torch
    from tabulate import tabulate

    torch.set_num_threads(threads)
    frames = [int(part) for part in lengths.split(",")]
    rows = []
    for family in families:
        for precision in precisions:
            row = {"layer of": family, "precision": precision}
            try:
                row |= compare(layer_of(family, preset), frames, precision)
            except Exception as error:
                row["ratio"] = f"not compiled: {' '.join(str(error).split())[:80]}"
            rows.append(row)
            click.echo(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3g"))


def layer_of(family: str, preset: str) -> Callable:
    """Return a function of x, (frames, batch, dim), that runs the second layer with its adapters, and its tensors."""
    import upstream_elp
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options

    upstream_elp.register()
    from s3prl import hub

    with tempfile.TemporaryDirectory() as folder:
        path = write_backbone(Path(folder) / "base.pt", family=family, **size_options("base", family))
        expert = hub.elp_custom(ckpt=str(path), model_config=preset)
    return expert.get_submodule(expert.injection.model_path).get_submodule(expert.injection.family.layers)[1]


def compare(layer: Any, frames: list[int], precision: str) -> dict[str, Any]:
    """Compile a layer and compare it with itself."""
    import torch

    inputs = [torch.randn(length, BATCH, 768, requires_grad=True) for length in frames]
    compiled = torch.compile(layer, dynamic=True)

    def step(module: Callable, x: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = module(x, need_weights=False)[0]
        wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
        return [output.detach(), *torch.autograd.grad(output.float().square().mean(), wanted)]

    began = time.perf_counter()
    found = [step(compiled, x) for x in inputs]
    seconds = time.perf_counter() - began
    expected = [step(layer, x) for x in inputs]
    times: dict[str, list[float]] = {"compiled": [], "plain": []}
    for _ in range(REPEATS):
        for name, module in (("compiled", compiled), ("plain", layer)):
            started = time.process_time()
            for x in inputs:
                step(module, x)
            times[name].append(time.process_time() - started)
    pairs = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)]
    differences = [float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) for one, other in pairs]
    broken = any(bool(one.isnan().any()) for one, _ in pairs)
    ratios = [one / other for one, other in zip(times["compiled"], times["plain"], strict=True)]
    return {
        "s to compile": seconds,
        "ratio": f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        "output differs by": max(differences[:: len(found[0])]),
        "gradients differ by": "NaN" if broken else max(differences),
    }


if __name__ == "__main__":
    main()
