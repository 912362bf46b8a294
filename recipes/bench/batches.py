"""Padding, and processor time per epoch, with batches of random utterances and with batches of similar length.

Each task has three kinds of batches: `train_batch_size` random utterances (ASR's are sorted by length in any case), as
many utterances of similar length (`length_buckets`), and batches of seconds (`train_batch_seconds`, as many seconds as
a batch of random utterances contains on average). Padding is that of a whole epoch. For the time, some batches of each
kind, from the smallest to the largest, make a training step on a Base-shaped backbone. The kinds take turns, and the
mean is multiplied by the number of batches in the epoch. Reading audio is not timed.

    python recipes/bench/batches.py                      # synthesises mini-SUPERB (extra synth); one thread
    python recipes/bench/batches.py --data DATA --tasks er,ic --batch 32 --samples 12
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from shared import Clock, pooled_loss, pooling_head, take_turns
from tabulate import tabulate

from downstream_heads import registry

TASKS = tuple(task.short for task in registry.tasks().values() if task.synthesised)
HEADER = ("task", "batches", "number", "utterances", "padding %", "CPU s per epoch", "x first row")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Folder of corpora. [default: synthesise]")
@click.option("--tasks", default=",".join(TASKS), show_default=True)
@click.option("--method", default="le", show_default=True, help="Adapter preset.")
@click.option("--size", default="base", show_default=True, help="Size of the random WavLM: mini, base or large.")
@click.option("--batch", default=8, show_default=True, help="Utterances per batch.")
@click.option("--samples", default=6, show_default=True, help="Batches of each kind to time; 0: only count padding.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
def main(data: Path | None, tasks: str, method: str, size: str, batch: int, samples: int, threads: int) -> None:
    """Compare the three kinds of batches."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            from upstream_elp.mini.superb import write_mini_superb

            data = Path(folder) / "data"
            write_mini_superb(data)
        os.environ["ELP_DATA"] = str(data)
        step = training_step(Path(folder), method, size) if samples else None
        rows = []
        with click.progressbar(tasks.split(","), label="tasks", item_show_func=str, file=sys.stderr) as bar:
            for task in bar:
                rows += compare(f"elp_{task}", Path(folder), batch=batch, samples=samples, step=step)
    click.echo(f"{method}, {size}, batches of {batch}, {samples} of each kind timed, {threads} threads\n")
    click.echo(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))


def training_step(folder: Path, method: str, size: str) -> Callable[[list], None]:
    """A function that makes a training step with the waves of a batch."""
    import torch
    from torch import nn

    import upstream_elp
    from upstream_elp.adapters.config import load_config
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options

    upstream_elp.register()
    from s3prl import hub

    path = write_backbone(folder / "backbone.pt", family="wavlm", **size_options(size, "wavlm"))
    upstream = hub.elp_custom(ckpt=str(path), model_config=load_config(method).to_dict()).train()
    featurizer, head = pooling_head(upstream, "cpu")
    parameters = [p for model in (upstream, featurizer, head) for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    def step(waves: list) -> None:
        waves = [torch.as_tensor(wave) for wave in waves]
        pooled_loss(featurizer, head, waves, upstream(waves)).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(
    task: str, folder: Path, *, batch: int, samples: int, step: Callable[[list], None] | None
) -> list[tuple[str, ...]]:
    """The rows of one task."""
    size = "batch_size" if task == "elp_asr" else "train_batch_size"
    plain = expert_of(task, folder, **{size: batch})
    counted = expert_of(task, folder, length_buckets=True, **{size: batch})
    lengths = counted.get_dataloader("train").dataset.lengths()
    seconds = round(batch * statistics.mean(lengths) / 16000, 1)
    kinds = {
        "sorted" if task == "elp_asr" else "random": plain,
        "length_buckets": counted,
        f"train_batch_seconds: {seconds}": expert_of(task, folder, train_batch_seconds=seconds),
    }
    epochs = {name: waves_of(expert) for name, expert in kinds.items()}
    times = timed(epochs, samples, step) if step is not None else {}
    rows = []
    for name, batches in epochs.items():
        held = sum(len(wave) for waves in batches for wave in waves)
        padded = sum(len(waves) * max(map(len, waves)) for waves in batches)
        row = [task, name, str(len(batches)), f"{len(lengths) / len(batches):.1f}", f"{100 * (1 - held / padded):.1f}"]
        if times:
            row += [f"{times[name]:.0f}", f"{times[name] / next(iter(times.values())):.2f}"]
        rows.append(tuple(row))
    return rows


def waves_of(expert: Any) -> list[list[Any]]:
    """The waves of all batches of the first epoch."""
    import random

    random.seed(0)  # the crops of SV
    return [waves for waves, *_ in expert.get_dataloader("train")]


def timed(epochs: dict[str, list], samples: int, step: Callable[[list], None]) -> dict[str, float]:
    """Seconds per epoch of each kind of batches."""
    chosen = {name: spread(batches, samples) for name, batches in epochs.items()}
    queues = {name: iter(batches) for name, batches in chosen.items()}
    step(next(iter(chosen.values()))[0])
    steps = {name: lambda queue=queue: step(next(queue)) for name, queue in queues.items()}
    found = take_turns(steps, Clock("cpu"), repeats=min(map(len, chosen.values())), warmup=0)
    return {name: statistics.mean(found[name]) * len(epochs[name]) for name in epochs}


def spread(batches: Sequence[list], count: int) -> list[list]:
    """Some batches of all sizes: the middle one of each part of the batches that are sorted by their size."""
    ordered = sorted(batches, key=lambda waves: len(waves) * max(map(len, waves)))
    count = min(count, len(ordered))
    return [ordered[int((part + 0.5) * len(ordered) / count)] for part in range(count)]


def expert_of(task: str, folder: Path, **datarc: Any) -> Any:
    """A task's expert with its quick recipe and these batches."""
    import yaml

    about = registry.find(task)
    recipe = Path(__file__).parents[1] / "tasks" / str(about.quick)
    block = yaml.safe_load(recipe.read_text(encoding="utf-8"))["downstream_expert"]
    block["datarc"] |= {"num_workers": 0, **datarc}
    block["datarc"].pop("pre_load", None)
    return about.load("expert")(
        upstream_dim=768, upstream_rate=320, downstream_expert=block, expdir=str(folder / "exp"), mode="train"
    )


if __name__ == "__main__":
    main()
