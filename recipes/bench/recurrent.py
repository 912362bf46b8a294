"""Processor time of SUPERB's ASR head, forward and backward: S3PRL's module and ours, which differ in the LSTM layers.

The two have the same parameters and take turns on the same features of utterances of different lengths. The last column
is the largest difference between two gradients of the features, relative to the largest gradient.

    python recipes/bench/recurrent.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from shared import Clock, take_turns
from tabulate import tabulate

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZES: dict[str, dict[str, Any]] = {
    "quickstart": {"dim": [128], "batch": 8, "frames": 100},
    "SUPERB": {"dim": [1024, 1024], "batch": 4, "frames": 200},
}
SYMBOLS = 31


@click.command()
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--repeats", default=5, show_default=True, help="Timed calls of each head.")
def main(threads: int, repeats: int) -> None:
    """Time both heads in both sizes."""
    import torch

    torch.set_num_threads(threads)
    rows = [[name, *measure(**size, repeats=repeats)] for name, size in SIZES.items()]
    click.echo(f"cpu, {threads} threads, {repeats} repeats: seconds (min-max)\n")
    header = ["size", "layers x width", "batch x frames", "S3PRL", "ours", "ours / S3PRL", "difference"]
    click.echo(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))


def measure(*, dim: list[int], batch: int, frames: int, repeats: int) -> list[str]:
    """The cells of one row after its name."""
    import torch
    from s3prl.downstream.asr.model import RNNs

    from downstream_heads.elp_asr.model import RNN_DEFAULTS, RecurrentHead

    torch.manual_seed(0)
    lists = {key: value[:1] * len(dim) for key, value in RNN_DEFAULTS.items() if isinstance(value, list)}
    options = {**RNN_DEFAULTS, **lists, "dim": dim, "dropout": [0.0] * len(dim)}
    stock = RNNs(dim[0], SYMBOLS, 320, **options)
    ours = RecurrentHead(dim[0], SYMBOLS, upstream_rate=320, options=options)
    ours.load_state_dict(stock.state_dict())
    features = torch.randn(batch, frames, dim[0], requires_grad=True)
    frames_len = torch.linspace(frames / 2, frames, batch).long()
    found: dict[str, Tensor] = {}
    steps = {name: step(name, head, features, frames_len, found) for name, head in (("S3PRL", stock), ("ours", ours))}
    times = take_turns(steps, Clock("cpu"), repeats=repeats, warmup=1)
    cells = [f"{statistics.median(t):.3f} ({min(t):.3f}-{max(t):.3f})" for t in times.values()]
    ratio = statistics.median(one / other for one, other in zip(times["ours"], times["S3PRL"], strict=True))
    difference = float((found["ours"] - found["S3PRL"]).abs().max() / found["S3PRL"].abs().max())
    return [f"{len(dim)} x {dim[0]}", f"{batch} x {frames}", *cells, f"{ratio:.2f}", f"{difference:.0e}"]


def step(
    name: str, head: nn.Module, features: Tensor, frames_len: Tensor, found: dict[str, Tensor]
) -> Callable[[], None]:
    """A call that computes the gradients of a head and keeps that of the features."""

    def call() -> None:
        head.zero_grad()
        features.grad = None
        head(features, frames_len)[0].square().mean().backward()
        found[name] = features.grad

    return call


if __name__ == "__main__":
    main()
