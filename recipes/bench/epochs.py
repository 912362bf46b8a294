"""Whole epochs of four tasks: S3PRL's own tasks with a frozen backbone, and ours with several methods.

    python recipes/bench/epochs.py --data DATA                     # DATA from: elp mini-superb DATA --size small
    python recipes/bench/epochs.py --data DATA --tasks ic --methods weighted_sum,le --size base
    python recipes/bench/epochs.py --data DATA --also config.runner.precision=bf16

The row "S3PRL" is S3PRL's own task, trained by S3PRL's own loop. All runs have the same corpus, batches, head,
optimizer and number of steps, and are separate processes that take turns. Audio is read in the training process, so
processor time includes reading, and there is no evaluation. The first epoch is counted from the call of the training
loop, and so includes preparations, such as a rehearsal of saving; the others are counted from step to step. A figure is
the median over rounds, and for later epochs also over epochs.

SUPERB's recurrent head for ASR, 1024 wide, would take most of the time of a small backbone; --asr-width makes it
narrower in both codes.

With --also, every method of ours is also measured with that override (as of elp run -o, several separated by ",,").
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from epochs_tasks import TASKS, our_override, stock_config
from peers import Names
from shared import run_worker

STOCK = "S3PRL"
METHODS = "weighted_sum,le,elp,full_finetune"


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of corpora.")
@click.option("--tasks", type=Names(tuple(TASKS)), default=",".join(TASKS), show_default=True)
@click.option("--methods", default=METHODS, show_default=True, help="Adapter presets, separated by commas.")
@click.option("--also", multiple=True, help="An override with which every method is measured too; may be repeated.")
@click.option("--size", default="mini", show_default=True, help="Size of the random WavLM: mini, base or large.")
@click.option("--batch", default=16, show_default=True, help="Utterances per step.")
@click.option("--asr-width", default=256, show_default=True, help="Width of ASR's head; SUPERB's is 1024.")
@click.option("--epochs", type=click.IntRange(2), default=3, show_default=True)
@click.option("--rounds", default=2, show_default=True, help="Processes per task and method.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--out", type=click.Path(path_type=Path), default="result/bench/epochs", show_default=True,
              help="Writes OUT.md, OUT.csv and OUT.json.")  # fmt: skip
@click.option("--worker", hidden=True)
@click.option("--checkpoint", type=Path, hidden=True)
@click.option("--override", default="", hidden=True)
def main(
    tasks: tuple[str, ...],
    methods: str,
    also: tuple[str, ...],
    size: str,
    rounds: int,
    out: Path,
    worker: str | None,
    checkpoint: Path | None,
    override: str,
    **setting: Any,
) -> None:
    if worker:
        print(json.dumps(measure(worker, Path(checkpoint), override=override, **setting)))
        return
    runs: list[dict[str, Any]] = []
    problems: list[str] = []
    variants = [(STOCK, ""), *((method, each) for method in methods.split(",") for each in ("", *also))]
    order = [(number, task, *each) for number in range(rounds) for task in tasks for each in variants]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        from upstream_elp.mini.backbone import write_backbone
        from upstream_elp.mini.sizes import size_options

        backbone = write_backbone(Path(folder) / "backbone.pt", family="wavlm", **size_options(size, "wavlm"))
        show = {"label": "runs", "item_show_func": lambda item: item and " ".join(item[1:]), "file": sys.stderr}
        with click.progressbar(order, **show) as bar:
            for number, task, method, each in bar:
                row = {"task": task, "method": f"{method} {each}".strip(), "round": number}
                flags = {**setting, "override": each}
                try:
                    runs.append({**row, **run_worker(__file__, f"{task} {method}", backbone, flags)})
                except click.ClickException as error:
                    problems.append(f"{row['task']}, {row['method']}: {error.message}")
                # keep what has been measured, even if a later run fails
                _write(runs, problems, {"size": size, "rounds": rounds, **setting}, out)
    click.echo(out.with_suffix(".md").read_text(encoding="utf-8"))
    if problems:
        raise click.ClickException(f"{len(problems)} runs failed; the first: {problems[0]}")


def measure(
    row: str,
    backbone: Path,
    *,
    override: str,
    data: Path,
    batch: int,
    asr_width: int,
    epochs: int,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Train one task with one method in this process.

    Returns:
        ``steps`` per epoch, and for each epoch ``cpu`` and ``wall`` seconds.
    """
    import torch

    from upstream_elp.run import run

    torch.set_num_threads(threads)
    task, method = row.split()
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        os.environ["ELP_CACHE"] = f"{folder}/cache"  # so that the first epoch finds no features
        flags = ["-m", "train", "-k", str(backbone), "-p", f"{folder}/exp", "--device", device]
        watch = EpochWatch(epochs)  # after register() of its own, as S3PRL's runner is replaced there
        if method == STOCK:
            config = stock_config(task, data, Path(folder), batch, asr_width)
            flags += ["-u", "wavlm_local", "-d", TASKS[task].stock, "-c", str(config), "--stock-loop"]
        else:
            changes = ",,".join(part for part in (our_override(task, batch, asr_width), override) if part)
            flags += ["-u", "elp_local", "-g", method, "-d", TASKS[task].ours, "--data", str(data), "-o", changes]
        run(flags)
    return watch.result()


class EpochWatch:
    """Notes the time of every optimizer step of the training in this process, whichever loop makes them.

    Args:
        epochs: how many to train; the number of steps follows from the task's loader.
    """

    def __init__(self, epochs: int) -> None:
        import upstream_elp

        upstream_elp.register()
        from s3prl import run_downstream
        from torch.optim import optimizer

        self.epochs = epochs
        self.marks: list[tuple[float, float]] = []
        """CPU and wall time at the start of the training and after each step."""
        self.steps = 0
        stock, watch = run_downstream.Runner.train, self

        def train(runner: Any) -> None:
            watch.steps = len(runner.downstream.model.get_dataloader("train"))
            runner.config["runner"]["total_steps"] = watch.steps * epochs
            watch.note()
            stock(runner)

        run_downstream.Runner.train = train
        optimizer.register_optimizer_step_post_hook(self.note)

    def note(self, *_: Any) -> None:
        """Note the time now."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append((time.process_time(), time.perf_counter()))

    def result(self) -> dict[str, Any]:
        """Return the steps per epoch and the seconds of each epoch.

        Raises:
            ValueError: the optimizer did not step as often as expected, so the epochs are unknown.
        """
        if len(self.marks) != 1 + self.steps * self.epochs:
            made = len(self.marks) - 1
            raise ValueError(f"the optimizer must make {self.epochs} x {self.steps} steps, but made {made}")
        ends = self.marks[:: self.steps]
        cpu, wall = ([end[which] - start[which] for start, end in itertools.pairwise(ends)] for which in (0, 1))
        return {"steps": self.steps, "cpu": cpu, "wall": wall}


def _write(runs: list[dict[str, Any]], problems: list[str], setting: dict[str, Any], out: Path) -> None:
    """Write the table and all measurements."""
    import csv

    from peers_tables import described, table

    parts = [described(setting, ("torch", "s3prl")), table(summary(runs)), "\n".join(f"failed: {p}" for p in problems)]
    out.with_suffix(".md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    content = {"setting": {key: str(value) for key, value in setting.items()}, "runs": runs, "problems": problems}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        rows = [
            {
                **{key: run[key] for key in ("task", "method", "round", "steps")},
                "epoch": epoch,
                "cpu": cpu,
                "wall": wall,
            }
            for run in runs
            for epoch, (cpu, wall) in enumerate(zip(run["cpu"], run["wall"], strict=True))
        ]
        writer = csv.DictWriter(file, ("task", "method", "round", "steps", "epoch", "cpu", "wall"))
        writer.writeheader()
        writer.writerows(rows)


def summary(runs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return one line per task and method; ratios are those of S3PRL's row of the same task and round."""
    from peers_tables import spread

    lines = []
    for task, method in dict.fromkeys((run["task"], run["method"]) for run in runs):
        own = [run for run in runs if (run["task"], run["method"]) == (task, method)]
        stock = {run["round"]: run for run in runs if (run["task"], run["method"]) == (task, STOCK)}
        ratios = {
            when: [
                _of(run, when, "cpu") / _of(stock[run["round"]], when, "cpu") for run in own if run["round"] in stock
            ]
            for when in ("first", "later")
        }
        lines.append({"task": task, "method": method, "steps": str(own[0]["steps"])})
        for when, values in ratios.items():
            lines[-1][f"{when} epoch, CPU s"] = spread([_of(run, when, "cpu") for run in own])
            lines[-1][f"{when} epoch, wall s"] = spread([_of(run, when, "wall") for run in own])
            lines[-1][f"{when} epoch, x S3PRL"] = spread(values)
    return lines


def _of(run: dict[str, Any], when: str, key: str) -> float:
    """Return the seconds of a run's first epoch, or the median of the others."""
    return run[key][0] if when == "first" else statistics.median(run[key][1:])


if __name__ == "__main__":
    main()
