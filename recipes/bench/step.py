"""Time and memory of one training step, compared to stock S3PRL, on a Base-shaped backbone with random weights.

Each row runs in a separate process, the rows take turns for several rounds, and a row's figure is its median. Ratios
are relative to S3PRL's own frozen step in the same call. On the CPU, the time is processor time, which other programs
disturb little, and the memory is the peak above that of the process after loading the model.

    python recipes/bench/step.py                  # CPU, 4 waves of 4 s, one thread
    python recipes/bench/step.py --device cuda --batch 16 --precision bf16
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from shared import Clock, pooled_loss, pooling_head, run_worker, timed

# row: (adapter preset, None for stock S3PRL; trained?; the backbone's dropout), and perhaps methods to call before
ROWS = {
    "S3PRL frozen": (None, False, False),
    "weighted_sum": ("weighted_sum", False, False),
    "l_plain": ("l_plain", True, False),
    "l_only": ("l_only", True, False),
    "le": ("le", True, False),
    "le, fused": ("le", True, False, "fuse_attention"),
    "le, checkpointing": ("le", True, False, "checkpoint_layers"),
    "le, fused, checkpointing": ("le", True, False, "fuse_attention", "checkpoint_layers"),
    "le, dropout on": ("le", True, True),
    "elp": ("elp", True, False),
    "elp, dropout on": ("elp", True, True),
    "full_finetune": ("full_finetune", True, False),
    "full_finetune, dropout on": ("full_finetune", True, True),
    "S3PRL -f": (None, True, False),
    "S3PRL -f, dropout on": (None, True, True),
}


@click.command()
@click.option("--family", default="wavlm", show_default=True)
@click.option("--batch", default=4, show_default=True, help="Waves per step.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each wave.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--steps", default=4, show_default=True, help="Timed steps per process, after some untimed ones.")
@click.option("--rounds", default=3, show_default=True, help="Processes per row.")
@click.option("--rows", default=",,".join(ROWS), help="Rows to run, separated by two commas.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write OUT.md and OUT.json.")
@click.option("--worker", hidden=True)
@click.option("--checkpoint", hidden=True)
def main(rows: str, rounds: int, out: Path | None, worker: str | None, checkpoint: str | None, **setting: Any) -> None:
    """Measure a training step of S3PRL and of our presets with the same batch, precision, head and optimizer."""
    if worker:
        print(json.dumps(measure(worker, str(checkpoint), **setting)))
        return
    chosen = [row for row in rows.split(",,") if row]
    if unknown := set(chosen) - set(ROWS):
        raise click.UsageError(f"unknown row {min(unknown)!r}; the rows are: {', '.join(ROWS)}")
    with tempfile.TemporaryDirectory() as folder:
        from upstream_elp.mini.backbone import write_backbone
        from upstream_elp.mini.sizes import SIZES

        path = write_backbone(Path(folder) / "base.pt", family=setting["family"], **SIZES["base"])
        runs: dict[str, list[dict[str, float]]] = {}
        order = [row for _ in range(rounds) for row in chosen]
        with click.progressbar(order, label="processes", item_show_func=str, file=sys.stderr) as bar:
            for row in bar:
                runs.setdefault(row, []).append(run_worker(__file__, row, path, setting))
                if out:  # keep what has been measured, even if a later row fails
                    _write(runs, setting, out)
    click.echo(table(runs, setting))


def _write(runs: dict[str, list[dict[str, float]]], setting: dict[str, Any], out: Path) -> None:
    out.with_suffix(".md").write_text(table(runs, setting) + "\n", encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps({"setting": setting, "runs": runs}, indent=2), encoding="utf-8")


def measure(
    row: str,
    checkpoint: str,
    *,
    family: str,
    batch: int,
    seconds: float,
    device: str,
    precision: str,
    threads: int,
    steps: int,
) -> dict[str, float]:
    """Run one row in this process.

    Returns:
        ``seconds`` per step (processor time on the CPU, elapsed time on a GPU), ``gigabytes`` at the peak above the
        loaded model, and ``trainable`` parameters of the upstream.
    """
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    upstream, featurizer, head = _models(row, checkpoint, family, device)
    trained = ROWS[row][1]
    parameters = [p for m in (upstream, featurizer, head) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    waves = [torch.randn(int(16000 * seconds), device=device) for _ in range(batch)]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            with torch.set_grad_enabled(trained):
                states = upstream(waves)
            loss = pooled_loss(featurizer, head, waves, states)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    clock = Clock(device)
    middle = timed(step, clock, steps=steps)
    count = sum(p.numel() for p in upstream.parameters() if p.requires_grad) if trained else 0
    return {"seconds": middle, "gigabytes": clock.peak(), "trainable": count}


def _models(row: str, checkpoint: str, family: str, device: str) -> tuple:
    import upstream_elp

    upstream_elp.register()
    from s3prl import hub

    preset, trained, dropout, *methods = ROWS[row]
    if preset is None:
        upstream = getattr(hub, f"{family}_local")(ckpt=checkpoint).to(device)
        # stock S3PRL ties dropout to training; without it, only the mode differs
        mode = trained and dropout
    else:
        from upstream_elp.adapters.config import load_config

        config = {**load_config(preset).to_dict(), "backbone_dropout": dropout}
        upstream = hub.elp_custom(ckpt=checkpoint, model_config=config).to(device)
        mode = trained
    for method in methods:
        getattr(upstream, method)()
    featurizer, head = pooling_head(upstream, device)
    upstream.train(mode)
    return upstream, featurizer, head


def table(runs: dict[str, list[dict[str, float]]], setting: dict[str, Any]) -> str:
    """A Markdown table with medians over the processes and the ratio to S3PRL's frozen step."""
    from tabulate import tabulate

    def median(row: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[row])

    on_gpu = setting["device"].startswith("cuda")
    unit, scale, digits = ("GPU ms", 1000, 1) if on_gpu else ("CPU s", 1, 2)
    base = median("S3PRL frozen", "seconds") if "S3PRL frozen" in runs else None
    rows = []
    for row in runs:
        spread = sorted(scale * run["seconds"] for run in runs[row])
        middle, low, high = (f"{value:.{digits}f}" for value in (scale * median(row, "seconds"), spread[0], spread[-1]))
        ratio = f"{median(row, 'seconds') / base:.2f}" if base else "-"
        rows.append(
            (row, f"{middle} ({low}-{high})", ratio,
             f"{median(row, 'gigabytes'):.2f}", f"{median(row, 'trainable'):,.0f}")
        )  # fmt: skip
    head = ["step of", f"{unit} (min-max)", "x frozen", "GB above model", "trained in upstream"]
    described = ", ".join(f"{key} {value}" for key, value in setting.items())
    if on_gpu:
        import torch

        described = f"{torch.cuda.get_device_name(setting['device'])}; {described}"
    return f"{described}\n\n" + tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
