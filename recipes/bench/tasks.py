"""Train tasks on a Base-shaped backbone in several precisions: throughput, peak memory, and whether they learn.

    python recipes/bench/tasks.py               # on the GPU if there is one; corpora synthesised (extra synth)
    python recipes/bench/tasks.py --data DATA --tasks elp_ic --methods le,elp --precisions bf16

Every run is `elp run -m train` with the task's SUPERB recipe (so ASR has its recurrent head of 42 million parameters)
and the same batch size. Utterances per second and milliseconds per step cover the steps after the first logged ones and
include data loading. The peak is that of PyTorch's allocator, including weights, or of the process on a CPU. With
--jobs, several runs are prepared in parallel, but only one trains at a time.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Lock
from pathlib import Path
from typing import Any

import click

from downstream_heads import registry

TASKS = tuple(name for name, task in registry.tasks().items() if task.synthesised)
METHODS = ("weighted_sum", "l_only", "le", "elp", "full_finetune")
PRECISIONS = ("bf16", "fp16", "fp32")
COLUMNS = ("task", "method", "precision", "ms/step", "utt/s", "peak GB", "loss", "skipped")
INTERVALS = 5
"""Logged parts of a run, of which the first is not timed."""


@click.command(help=__doc__)
@click.option(
    "--data", type=click.Path(exists=True, path_type=Path), help="Folder of corpora. [default: synthesise mini-SUPERB]"
)
@click.option("--size", default="base", show_default=True, help="Size of the random WavLM: mini, base or large.")
@click.option("--tasks", default=",".join(TASKS), show_default=True)
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Adapter presets.")
@click.option("--precisions", default=",".join(PRECISIONS), show_default=True)
@click.option("--steps", default=50, show_default=True, type=click.IntRange(min=INTERVALS), help="Steps per run.")
@click.option("--batch", default=16, show_default=True, help="Utterances per step.")
@click.option("--workers", default=4, show_default=True, help="Processes that load data.")
@click.option("--jobs", default=1, show_default=True, help="Runs prepared in parallel.")
@click.option("--device", help="cpu or cuda. [default: cuda if available]")
@click.option("--out", default=Path("result/bench/tasks"), show_default=True, type=click.Path(path_type=Path))
def main(
    data: Path | None, size: str, tasks: str, methods: str, precisions: str, jobs: int, out: Path, **setting: Any
) -> None:
    import torch

    setting["device"] = setting["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = [
        (task, method, precision)
        for precision in _named(precisions, PRECISIONS)
        for task in _named(tasks, TASKS)
        for method in methods.split(",")
    ]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        from upstream_elp.mini.backbone import write_backbone
        from upstream_elp.mini.sizes import size_options
        from upstream_elp.mini.superb import write_mini_superb

        backbone = write_backbone(Path(folder) / "backbone.pt", family="wavlm", **size_options(size, "wavlm"))
        if data is None:
            data = Path(folder) / "data"
            write_mini_superb(data)
        rows: list[dict[str, Any]] = []
        spawned = multiprocessing.get_context("spawn")
        start = {"mp_context": spawned, "initializer": _start, "initargs": (spawned.Lock(), jobs)}
        with (
            ProcessPoolExecutor(jobs, **start) as pool,
            click.progressbar(length=len(chosen), label="runs", file=sys.stderr) as bar,
        ):
            shared = {"data": data, "backbone": backbone, **setting}
            runs = [pool.submit(measure, *run, folder=Path(folder) / "-".join(run), **shared) for run in chosen]
            for run in as_completed(runs):
                rows.append(run.result())
                _write(rows, {"size": size, **setting}, out)  # keep what has been measured, even if a later run fails
                bar.update(1)
    click.echo((out / "tasks.md").read_text(encoding="utf-8"))


def _start(one_at_a_time: Lock, jobs: int) -> None:
    """Let the steps of this process wait until no other process makes steps."""
    import torch

    from upstream_elp.training import loop

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))

    class Training(loop.Training):
        _holds = False

        def _step(self, group: list[Any]) -> None:  # its batch is ready, and the loading processes have started
            if not self._holds:
                self._holds = one_at_a_time.acquire()
            super()._step(group)

        def _save(self, *args: Any, **kwargs: Any) -> None:
            self._let_go()
            super()._save(*args, **kwargs)

        def _let_go(self) -> None:
            if self._holds:
                one_at_a_time.release()
            self._holds = False

        def run(self) -> None:
            try:
                super().run()
            finally:
                self._let_go()

    loop.Training = Training


def measure(
    task: str,
    method: str,
    precision: str,
    *,
    data: Path,
    backbone: Path,
    folder: Path,
    steps: int,
    batch: int,
    workers: int,
    device: str,
) -> dict[str, Any]:
    """Train once in this process, and read the logs."""
    import torch

    from upstream_elp.base.errors import ElpError
    from upstream_elp.run import run

    began, row = time.monotonic(), {"task": task, "method": method, "precision": precision}
    flags = ["-m", "train", "-u", "elp_local", "-k", str(backbone), "-g", method, "-d", task, "-p", str(folder)]
    flags += ["--data", str(data), "--device", device, "-o", _override(task, precision, steps, batch, workers)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run(flags)
    except (ElpError, torch.OutOfMemoryError) as error:
        return {**row, "problem": str(error).splitlines()[0]}
    finally:
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    means = [line["metrics"]["loss"] for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
    results = json.loads((folder / "results.json").read_text())
    for path in folder.glob("*.ckpt"):
        path.unlink()
    seconds = statistics.median(line["seconds"] for line in lines[1:])
    return {
        **row,
        "ms/step": 1000 * seconds / (steps // INTERVALS),
        "utt/s": statistics.median(line["utterances"] / line["seconds"] for line in lines[1:]),
        "peak GB": results["peak_memory_bytes"] / 1e9,
        "first loss": means[0],
        "last loss": means[-1],
        "skipped": results["skipped_steps"],
        "trained": sum(count for name, count in results["parameters"].items() if name != "frozen"),
        "device": results["device"],
        "whole run s": time.monotonic() - began,
    }


def _override(task: str, precision: str, steps: int, batch: int, workers: int) -> str:
    runner = {
        "total_steps": steps,
        "log_step": steps // INTERVALS,
        "eval_step": 10 * steps,
        "save_step": 10 * steps,
        "gradient_accumulate_steps": 1,
        "precision": precision,
    }
    datarc = {"batch_size" if task == "elp_asr" else "train_batch_size": batch, "num_workers": workers}
    datarc |= {"protocol": "plain"} if task == "elp_asr" else {}
    datarc |= (
        {"min_samples": 24000, "max_timestep": 32000} if task == "elp_sv" else {}
    )  # mini-SUPERB's utterances are short
    values = {f"config.runner.{key}": value for key, value in runner.items()}
    values |= {f"config.downstream_expert.datarc.{key}": value for key, value in datarc.items()}
    return ",,".join(f"{key}={value}" for key, value in values.items())


def _write(rows: list[dict[str, Any]], setting: dict[str, Any], out: Path) -> None:
    """Write what has been measured so far as Markdown, CSV and JSON."""
    from tabulate import tabulate

    places = {name: place for names in (TASKS, PRECISIONS, METHODS) for place, name in enumerate(names)}
    order = sorted(rows, key=lambda row: [places.get(row[key], 99) for key in ("task", "precision", "method")])
    shown = [[_cell(row, column) for column in COLUMNS] for row in order]
    where = next((row["device"] for row in rows if "device" in row), setting["device"])
    described = ", ".join(f"{key} {value}" for key, value in setting.items())
    text = f"{where}; {described}\n\n" + tabulate(shown, COLUMNS, tablefmt="github", disable_numparse=True) + "\n"
    (out / "tasks.md").write_text(text, encoding="utf-8")
    (out / "tasks.json").write_text(json.dumps({"setting": setting, "rows": rows}, indent=1), encoding="utf-8")
    with (out / "tasks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "loss":
        return row.get("problem") or f"{row['first loss']:.3f} to {row['last loss']:.3f}"
    value = row.get(column, "")
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _named(names: str, valid: tuple[str, ...]) -> list[str]:
    chosen = [registry.whole_name(name) for name in names.split(",")]
    if unknown := [name for name in chosen if name not in valid]:
        raise click.UsageError(f"unknown {unknown[0]!r}; choose from {', '.join(valid)}")
    return chosen


if __name__ == "__main__":
    main()
