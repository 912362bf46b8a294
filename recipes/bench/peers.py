"""One training step, side by side: S3PRL, peft's LoRA, a restatement of the L-E reference, and ours.

    python recipes/bench/peers.py                                   # everything, on the CPU with one thread
    python recipes/bench/peers.py --parts table --precisions fp32 --rows "S3PRL frozen,le,S3PRL -f"
    python recipes/bench/peers.py --device cuda --batch 16 --precisions bf16 --steps 20

The backbones have random weights. Every row runs in separate processes with the same batch, head and optimizer, and
dropout is off. The processes take turns for several rounds; a figure is the median over the rounds, with the lowest and
the highest in brackets, and a ratio is that of the same round. On the CPU, the time is processor time, which other
programs disturb little. Memory is the peak above that of the process after loading the model.

There are three parts: "table" (all rows and precisions), "length" (fp32, batches of several shapes) and "size" (fp32,
Base and Large shapes).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from peers_models import ROWS, SCALED, Row, cached_step, load, plain_step, set_mode, trained_parameters
from peers_tables import Case, Results
from shared import Clock, pooled_loss, pooling_head, run_worker, timed

PARTS = ("table", "length", "size")
PRECISIONS = ("fp32", "bf16")


class Names(click.ParamType):
    """Names separated by commas, such as ``fp32,bf16``."""

    name = "names"

    def __init__(self, valid: tuple[str, ...]) -> None:
        self.valid = valid

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        chosen = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value
        for name in chosen:
            if name not in self.valid:
                self.fail(f"unknown {name!r}; the names are: {', '.join(self.valid)}", param, ctx)
        return chosen


class Shapes(click.ParamType):
    """Shapes of batches separated by commas, such as ``4x2,1x15``: waves x seconds."""

    name = "shapes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Return (waves, seconds) of each shape."""
        if not isinstance(value, str):
            return value
        try:
            parts = [part.split("x") for part in value.split(",")]
            return tuple((int(waves), float(seconds)) for waves, seconds in parts)
        except ValueError:
            self.fail(f"{value!r} must be shapes like 4x2,1x15: waves x seconds", param, ctx)


def _all(names: tuple[str, ...]) -> dict[str, Any]:
    return {"type": Names(tuple(names)), "default": ",".join(names)}


@click.command(help=__doc__)
@click.option("--parts", **_all(PARTS), show_default=True)
@click.option("--rows", **_all(tuple(ROWS)), help="Rows, separated by commas. [default: all]")
@click.option("--precisions", **_all(PRECISIONS), show_default=True, help="Of the table.")
@click.option("--size", default="base", show_default=True, help="Size of the backbones of table and length.")
@click.option("--batch", default=4, show_default=True, help="Waves per step of the table.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each wave of the table.")
@click.option("--shapes", type=Shapes(), default="1x2,8x2,4x4,2x8,1x15,1x30", show_default=True,
              help="Waves x seconds, for the part length.")  # fmt: skip
@click.option("--sizes", **_all(("mini", "base", "large")), help="For the part size. [default: base,large]")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--steps", default=3, show_default=True, help="Timed steps per process, after some untimed ones.")
@click.option("--rounds", default=3, type=click.IntRange(0), show_default=True, help="Processes per row and setting.")
@click.option("--out", type=click.Path(path_type=Path), default="result/bench/peers", show_default=True,
              help="Writes OUT.md, OUT.csv, OUT.json and OUT.png.")  # fmt: skip
@click.option("--add", type=click.Path(exists=True, path_type=Path), multiple=True,
              help="JSON file of an earlier call, to include; --rounds 0 measures nothing else.")  # fmt: skip
@click.option("--worker", hidden=True)
@click.option("--checkpoint", type=Path, hidden=True)
@click.option("--precision", hidden=True)
@click.pass_context
def main(
    context: click.Context,
    worker: str | None,
    checkpoint: Path | None,
    out: Path,
    add: tuple[Path, ...],
    **options: Any,
) -> None:
    shared = {name: options[name] for name in ("device", "threads", "steps")}
    if worker:
        flags = {"shapes": options["shapes"], "precision": options["precision"]}
        print(json.dumps({"cases": measure(worker, Path(checkpoint), **flags, **shared)}))
        return
    if context.get_parameter_source("sizes") == click.core.ParameterSource.DEFAULT:
        options["sizes"] = ("base", "large")
    import upstream_elp

    upstream_elp.register()  # writing a backbone imports torchaudio, which may need its repair
    results = Results(shared)
    for path in add:
        results.read(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        order = [(number, group) for number in range(options["rounds"]) for group in groups(**options)]
        show = {"label": "processes", "item_show_func": lambda item: item and item[1][0].row, "file": sys.stderr}
        with click.progressbar(order, **show) as bar:
            for number, group in bar:
                _run(group, number, Path(folder), shared, results)
                results.write(out)  # keep what has been measured, even if a later row fails
    results.write(out)
    click.echo(results.text())
    if results.problems:
        raise click.ClickException(f"{len(results.problems)} runs failed; the first: {results.problems[0]}")


def groups(
    *,
    parts: tuple[str, ...],
    rows: tuple[str, ...],
    precisions: tuple[str, ...],
    size: str,
    batch: int,
    seconds: float,
    shapes: tuple[tuple[int, float], ...],
    sizes: tuple[str, ...],
    **_: Any,
) -> list[list[Case]]:
    """List what one round measures, in groups of cases that share a process: all shapes of a row."""
    scaled = [row for row in rows if row in SCALED]
    of_part = {
        "table": [[Case("table", row, size, batch, seconds, precision)] for precision in precisions for row in rows],
        "length": [[Case("length", row, size, *shape, "fp32") for shape in shapes] for row in scaled],
        "size": [[Case("size", row, each, 2, seconds, "fp32")] for each in sizes for row in scaled],
    }
    return [group for part in parts for group in of_part[part]]


def _run(group: list[Case], number: int, folder: Path, shared: dict[str, Any], results: Results) -> None:
    """Run cases of one row in one process, and note their results or their problem."""
    first = group[0]
    setting = {"shapes": ",".join(f"{case.batch}x{case.seconds:g}" for case in group), **shared}
    try:
        path = backbone_at(ROWS[first.row].family, first.size, folder)
        measured = run_worker(__file__, first.row, path, {**setting, "precision": first.precision})
    except click.ClickException as error:
        results.problems.append(f"{first.part}, {first.size}, {first.precision}: {error.message}")
        return
    for case, run in zip(group, measured["cases"], strict=True):
        results.add(case, number, run)


def backbone_at(family: str, size: str, folder: Path) -> Path:
    """Write a backbone when it is first needed."""
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options

    path = folder / f"{family}-{size}"
    path = path if family.startswith("hf_") else path.with_suffix(".pt")
    return path if path.exists() else write_backbone(path, family=family, **size_options(size, family))


def measure(
    name: str,
    checkpoint: Path,
    *,
    shapes: tuple[tuple[int, float], ...],
    precision: str,
    device: str,
    threads: int,
    steps: int,
) -> list[dict[str, float]]:
    """Run one row in this process, with one shape of a batch after the other.

    Returns:
        For each shape, ``step`` in seconds (processor time on the CPU, elapsed time on a GPU), ``gigabytes`` at the
        peak above the loaded model, and ``trained`` parameters of the upstream.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    row = ROWS[name]
    upstream = load(row, checkpoint).to(device)
    featurizer, head = pooling_head(upstream, device)
    set_mode(row, upstream)
    trained = trained_parameters(row, upstream)
    measured = []
    for batch, seconds in shapes:
        waves = [torch.randn(int(16000 * seconds), device=device) for _ in range(batch)]
        clock = Clock(device)
        step = step_of(row, (upstream, featurizer, head), waves, precision)
        middle = timed(step, clock, steps=steps)
        measured.append({"step": middle, "gigabytes": clock.peak(), "trained": trained})
        del step  # with its optimizer
    return measured


def step_of(row: Row, models: tuple, waves: list, precision: str) -> Callable[[], None]:
    """Return a training step of a batch, with a new optimizer."""
    import torch
    from torch import nn

    upstream, featurizer, head = models
    parameters = [p for model in models for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    autocast = torch.autocast(waves[0].device.type, torch.bfloat16, enabled=precision == "bf16")

    def loss_of(waves: list[torch.Tensor], states: dict) -> torch.Tensor:
        return pooled_loss(featurizer, head, waves, states)

    with autocast:
        forward = (cached_step if row.cached else plain_step)(row, upstream, loss_of, waves)

    def step() -> None:
        with autocast:
            loss = forward()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
