"""Kill a training at random moments, including in the middle of writing a checkpoint, resume it, and compare.

    python recipes/bench/kill.py --data DATA --backbone FILE --kills 100

The run is made once without interruption, then repeatedly with kills (SIGKILL) until the requested number is reached,
including at least one in the middle of a write and one in a run that then finished. At the end of each interrupted run,
its last checkpoint and its logged values must equal those of the uninterrupted run bit by bit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

LIMIT = 600
"""Seconds after which an undisturbed run is assumed to hang."""
NOT_COMPARED = {"time", "seconds", "joules"}


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder with the corpora.")
@click.option("--backbone", required=True, type=click.Path(exists=True, path_type=Path), help="Backbone checkpoint.")
@click.option("--task", default="elp_ic", show_default=True)
@click.option("--adapter", default="le", show_default=True, help="Preset.")
@click.option("--kills", default=100, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(min=5),
    default=24,
    show_default=True,
    help="Optimizer steps of the run, with a checkpoint after each.",
)
@click.option("--workers", default=2, show_default=True, help="DataLoader workers.")
@click.option("--batch", default=3, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Random seed of the moments of the kills.")
@click.option("--out", default=Path("result/bench/kill"), type=click.Path(path_type=Path), show_default=True)
def main(data: Path, backbone: Path, out: Path, kills: int, seed: int, **run: Any) -> None:
    import torch

    import upstream_elp

    torch.set_num_threads(1)  # children are forked, and locks held by threads would stay locked in them
    tqdm.monitor_interval = 0
    upstream_elp.register()
    import s3prl.run_downstream  # noqa: F401  once, for all children

    shutil.rmtree(out, ignore_errors=True)
    flags, steps = _flags(data, backbone, **run), run["steps"]
    resume = ["-m", "train", "-a", "-p", str(out / "killed"), "--data", str(data)]
    straight, expdir = out / "straight", out / "killed"
    began = time.monotonic()
    _attempt([*flags, "-p", str(straight)], out / "log.txt")
    duration = time.monotonic() - began
    moments, done, runs, in_writes = random.Random(seed), 0, 0, 0
    interrupted = False  # whether the current run has been killed since it began
    with tqdm(total=kills, desc="kills") as bar:
        while done < kills:
            # the last chance for a kill during a write, after a checkpoint from which the run can finish
            last = done == kills - 1 and not (runs and in_writes)
            in_write = moments.random() < 0.25 or last
            delay = None if in_write else moments.uniform(0, duration)
            if any(expdir.glob("states-*.ckpt")):
                again = resume
            else:
                again = [*flags, "-p", str(expdir)]
                shutil.rmtree(expdir, ignore_errors=True)
                interrupted = False
            status = _attempt(again, out / "log.txt", delay, moments.randrange(1 + last, 6) if in_write else None)
            if status == -signal.SIGKILL:
                done, in_writes, interrupted = done + 1, in_writes + in_write, True
                bar.update(1)
            else:
                _compare(straight, expdir, steps)
                runs += interrupted
                shutil.rmtree(expdir)
        if any(expdir.glob("states-*.ckpt")):
            _attempt(resume, out / "log.txt")
            _compare(straight, expdir, steps)
            runs += 1
    result = {"kills": done, "in the middle of a write": in_writes, "interrupted runs compared": runs, "differences": 0}
    (out / "kill.json").write_text(json.dumps(result, indent=2))
    click.echo(json.dumps(result))


def _flags(data: Path, backbone: Path, *, task: str, adapter: str, steps: int, workers: int, batch: int) -> list[str]:
    values = {
        "runner.total_steps": steps,
        "runner.save_step": 1,
        "runner.eval_step": max(2, steps // 3),
        "runner.log_step": 2,
        "runner.max_keep": 3,
        "runner.gradient_accumulate_steps": 2,
        "downstream_expert.datarc.num_workers": workers,
        "downstream_expert.datarc.train_batch_size": batch,
    }
    override = ",,".join(f"config.{key}={value}" for key, value in values.items())
    flags = ["-m", "train", "-u", "elp_local", "-k", str(backbone), "-g", adapter, "-d", task, "--data", str(data)]
    return [*flags, "-o", override]


def _attempt(flags: list[str], log: Path, delay: float | None = None, write: int | None = None) -> int:
    """Run in a child process; kill it after ``delay`` seconds, or halfway through writing its ``write``-th file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        tqdm.set_lock(threading.RLock())  # the bar's own is shared, and a killed child would keep it locked
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = 1
        try:
            if write is not None:
                _die_in_write(write)
            from upstream_elp.run import run

            run([*flags, "--device", "cpu"])
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + (LIMIT if delay is None else delay)
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.005)
    else:
        os.kill(child, signal.SIGKILL)
        if delay is None:
            raise click.ClickException(f"a run did not end within {LIMIT} seconds; see {log}")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise click.ClickException(f"a run failed; see {log}")
    return status


def _die_in_write(number: int) -> None:
    """Kill this process when half of its ``number``-th checkpoint is on disk."""
    import io

    import torch

    save, count = torch.save, 0

    def half(states: Any, file: Any) -> None:
        nonlocal count
        count += 1
        if count < number:
            save(states, file)
            return
        whole = io.BytesIO()
        save(states, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def _compare(expected: Path, found: Path, steps: int) -> None:
    from upstream_elp.experiment.checkpoint import load_checkpoint

    last = f"states-{steps}.ckpt"
    one, other = (load_checkpoint(folder / last).to_mapping() for folder in (expected, found))
    for states in (one, other):
        states.pop("Args")
    _same(one, other, last)
    for name in ("train.jsonl", "metrics.jsonl"):
        lines = [_lines(folder / name) for folder in (expected, found)]
        if lines[0] != lines[1]:
            raise click.ClickException(f"{found / name} differs from {expected / name}")


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in NOT_COMPARED} for line in lines]


def _same(first: Any, second: Any, where: str) -> None:
    import torch

    if isinstance(first, torch.Tensor):
        equal = torch.equal(first, second)
    elif isinstance(first, dict):
        equal = first.keys() == second.keys()
        for key in first if equal else ():
            _same(first[key], second[key], f"{where}: {key}")
    elif isinstance(first, list | tuple):
        equal = len(first) == len(second)
        for index, pair in enumerate(zip(first, second, strict=True) if equal else ()):
            _same(*pair, f"{where}[{index}]")
    else:
        equal = first == second or first != first
    if not equal:
        raise click.ClickException(f"{where} differs from the uninterrupted run's")


if __name__ == "__main__":
    main()
