"""Time and memory of forward and backward with each adapter preset, relative to the frozen backbone.

Each preset runs in a separate process. First, its peak memory is measured, above that of the loaded model. Then
S3PRL's own expert of the same backbone is loaded too, frozen and without gradients, and the two take turns. A ratio
is the median over these pairs, so a machine that becomes slower does so for both. On the CPU, the time is processor
time, which other programs disturb little. The row "frozen" compares the frozen backbone with another copy of itself:
the distance of its ratio from 1 is the resolution of the measurement.

At the end, a single encoder layer is measured with LoRA and with an E-adapter (see one_layer.py).

    python recipes/bench/methods.py                                   # CPU, every preset, 4 waves of 4 s, one thread
    python recipes/bench/methods.py --presets elp,lora_qv8 --batch 2 --seconds 2
    python recipes/bench/methods.py --device cuda --batch 16
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from one_layer import layer_table, measure_layer
from shared import Clock, pooled_loss, pooling_head, run_worker, stock_expert, take_turns
from tqdm import tqdm

from upstream_elp.adapters.config import preset_names
from upstream_elp.mini.backbone import write_backbone
from upstream_elp.mini.sizes import FAMILIES, SIZES, size_options

FROZEN, LAYER = "frozen", "layer"


@click.command()
@click.option("--presets", default="all", show_default=True, help="Adapter presets, separated by commas.")
@click.option("--family", type=click.Choice(FAMILIES), default="wavlm", show_default=True)
@click.option("--size", type=click.Choice(list(SIZES)), default="base", show_default=True, help="Size of the backbone.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Waves per step.")
@click.option("--seconds", type=click.FloatRange(0.1), default=4.0, show_default=True, help="Length of each wave.")
@click.option(
    "--repeats", type=click.IntRange(1), default=6, show_default=True, help="Timed pairs of steps per preset."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--layer-checks/--no-layer-checks", default=True, show_default=True, help="Measure a single layer too.")
@click.option("--layer-repeats", type=click.IntRange(1), default=40, show_default=True, help="Its timed rounds.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="result/bench", show_default=True,
              help="Folder for methods.md, methods.csv and methods.json.")  # fmt: skip
@click.option("--worker", hidden=True)
@click.option("--checkpoint", type=Path, hidden=True)
def main(
    presets: str,
    size: str,
    layer_checks: bool,
    out: Path,
    worker: str | None,
    checkpoint: Path | None,
    **setting: Any,
) -> None:
    """Measure forward and backward of each preset relative to the frozen backbone, with random weights."""
    if worker:
        result = measure_layer(checkpoint, **setting) if worker == LAYER else measure(worker, checkpoint, **setting)
        print(json.dumps(result))
        return
    rows = [FROZEN, *_chosen(presets), *([LAYER] if layer_checks else [])]
    with tempfile.TemporaryDirectory() as folder:
        options = size_options(size, setting["family"])
        path = write_backbone(Path(folder) / "backbone.pt", family=setting["family"], **options)
        runs = {}
        for row in (bar := tqdm(rows, unit="process", file=sys.stderr)):
            bar.set_description(row)
            runs[row] = run_worker(__file__, row, path, setting)
    layer = runs.pop(LAYER, None)
    _report(out, runs, layer, {"size": size, **setting})


def _chosen(presets: str) -> list[str]:
    if presets == "all":
        return preset_names()
    chosen = [name.strip() for name in presets.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in preset_names()]:
        raise click.UsageError(f"unknown preset {unknown[0]!r}; the presets are: {', '.join(preset_names())}")
    return chosen


def measure(
    row: str, checkpoint: Path, *, family: str, batch: int, seconds: float, repeats: int, device: str, **_: Any
) -> dict[str, Any]:
    """Run one preset, or the frozen backbone, in this process.

    Returns:
        ``times`` and ``frozen_times`` of each pair of steps in seconds, ``gigabytes`` at the peak above the loaded
        model, and ``trainable`` parameters of the upstream.
    """
    import torch

    torch.manual_seed(0)
    waves = [torch.randn(int(16000 * seconds), device=device) for _ in range(batch)]
    step, trainable = _step(row, checkpoint, family, device, waves)
    clock = Clock(device)
    step()
    step()
    gigabytes = clock.peak()
    frozen, _ = _step(FROZEN, checkpoint, family, device, waves)
    frozen()  # the other one is already warm
    times = take_turns({"frozen": frozen, "row": step}, clock, repeats=repeats, warmup=0)
    return {
        "times": times["row"],
        "frozen_times": times["frozen"],
        "gigabytes": gigabytes,
        "trainable": trainable,
    }


def _step(row: str, checkpoint: Path, family: str, device: str, waves: list) -> tuple[Callable[[], None], int]:
    """Forward and backward of one model, and the number of trained parameters in its upstream."""
    import torch

    import upstream_elp

    upstream_elp.register()
    from s3prl import hub

    if row == FROZEN:
        upstream = stock_expert(family, checkpoint).requires_grad_(False)
    else:
        upstream = hub.elp_custom(ckpt=str(checkpoint), model_config=row)
    upstream = upstream.to(device)
    featurizer, head = pooling_head(upstream, device)
    trainable = sum(p.numel() for p in upstream.parameters() if p.requires_grad)
    upstream.train(row != FROZEN)  # the stock expert would run its dropout; ours runs only the adapters'

    def step() -> None:
        with torch.set_grad_enabled(trainable > 0):
            states = upstream(waves)
        pooled_loss(featurizer, head, waves, states).backward()
        for module in (upstream, featurizer, head):
            module.zero_grad(set_to_none=True)

    return step, trainable


def _summary(row: str, run: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
    """One line of the table: medians over the pairs, and the extreme ratios."""
    ratios = [own / base for own, base in zip(run["times"], run["frozen_times"], strict=True)]
    return {
        "method": row,
        "seconds": statistics.median(run["times"]),
        "x frozen": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "gigabytes": run["gigabytes"],
        "x frozen gigabytes": run["gigabytes"] / frozen["gigabytes"],
        "trainable": run["trainable"],
    }


def _report(out: Path, runs: dict[str, dict], layer: dict[str, list[float]] | None, setting: dict[str, Any]) -> None:
    """Print the tables, and write them and all measurements to ``out``."""
    import torch
    from tabulate import tabulate

    rows = [_summary(row, run, runs[FROZEN]) for row, run in runs.items()]
    rows.sort(key=lambda row: (row["method"] != FROZEN, row["x frozen"]))
    unit = "GPU s" if setting["device"].startswith("cuda") else "CPU s"
    shown = [
        (r["method"], f"{r['seconds']:.2f}", f"{r['x frozen']:.2f} ({r['lowest']:.2f}-{r['highest']:.2f})",
         f"{r['gigabytes']:.2f}", f"{r['x frozen gigabytes']:.1f}", f"{r['trainable']:,}")
        for r in rows
    ]  # fmt: skip
    head = ["method", unit, "x frozen (min-max)", "GB above model", "x frozen", "trained in upstream"]
    aligned = ("left", *["right"] * 5)
    described = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items())
    text = f"{described}, torch {torch.__version__}\n\n"
    text += tabulate(shown, headers=head, tablefmt="github", disable_numparse=True, colalign=aligned) + "\n"
    if layer is not None:
        text += "\n" + layer_table(layer) + "\n"
    click.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "methods.md").write_text(text, encoding="utf-8")
    with (out / "methods.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    measured = {"setting": setting, "torch": torch.__version__, "rows": runs, "layer": layer}
    (out / "methods.json").write_text(json.dumps(measured, indent=2), encoding="utf-8")
    click.echo(f"written: {out}/methods.md, methods.csv, methods.json")


if __name__ == "__main__":
    main()
