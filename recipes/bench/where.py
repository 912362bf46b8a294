"""Where the time of a training step goes: matrix products, convolutions and the rest, relative to S3PRL's frozen step.

    python recipes/bench/where.py                                           # le, elp and full fine-tuning, cached
    python recipes/bench/where.py --rows "le (cached),S3PRL -f" --precision bf16

Rows are those of peers.py. Each runs in this process: one step to warm up, one under PyTorch's profiler.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
from peers import Names, backbone_at, step_of
from peers_models import ROWS, load, set_mode
from shared import pooling_head

GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::addbmm"),
    "convolutions": ("convolution",),
    "attention": ("attention", "softmax"),
    "gelu": ("gelu",),
    "norms": ("norm",),
}
"""Name of a group -> parts of the names of its operations; the first group that fits counts."""
BASE = "S3PRL frozen"
DEFAULT = "le,le (cached),elp (cached),full_finetune (cached)"


@click.command(help=__doc__)
@click.option("--rows", type=Names(tuple(ROWS)), default=DEFAULT, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--size", default="base", show_default=True)
@click.option("--batch", default=4, show_default=True, help="Waves per step.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each wave.")
@click.option("--threads", default=1, show_default=True)
def main(rows: tuple[str, ...], threads: int, **setting: Any) -> None:
    import torch
    from tabulate import tabulate

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        found = {row: profiled(row, Path(folder), **setting) for row in (BASE, *rows)}
    whole = sum(found[BASE].values())
    table = [
        {"step of": row, "all": sum(groups.values()) / whole, **{name: time / whole for name, time in groups.items()}}
        for row, groups in found.items()
    ]
    click.echo(tabulate(table, headers="keys", tablefmt="github", floatfmt=".2f"))


def profiled(name: str, folder: Path, *, precision: str, size: str, batch: int, seconds: float) -> dict[str, float]:
    """Return the processor seconds of each group of operations in one step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    row = ROWS[name]
    upstream = load(row, backbone_at(row.family, size, folder))
    featurizer, head = pooling_head(upstream, "cpu")
    set_mode(row, upstream)
    waves = [torch.randn(int(16000 * seconds)) for _ in range(batch)]
    step = step_of(row, (upstream, featurizer, head), waves, precision)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    totals = dict.fromkeys((*GROUPS, "other"), 0.0)
    for event in seen.key_averages():
        group = next((group for group, parts in GROUPS.items() if any(part in event.key for part in parts)), "other")
        totals[group] += event.self_cpu_time_total / 1e6
    return totals


if __name__ == "__main__":
    main()
