"""How long commands take to start: `elp --help`, `elp infer` of one file of 3 s, and `elp run` up to its first step.

    python recipes/bench/starts.py                       # the backbone is Base-shaped
    python recipes/bench/starts.py --size mini --against OTHER_CHECKOUT

A corpus, a backbone with random weights and a trained adapter folder are made in a temporary folder. Every command is
a separate process, from its start to its end; a training counts until the end of its first optimizer step, with two
utterances per batch. No start can do without `import torch`. With `--against`, the commands of another checkout take
turns with this one's. The first round is not counted: it fills the caches of byte code and of files.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).resolve().parents[2]
COMMAND = "from upstream_elp.cli import main; main()"
FIRST_STEP = """
import multiprocessing, os, time
from torch.optim.optimizer import register_optimizer_step_post_hook

def end(*_):
    print("step", time.time(), time.process_time(), flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)

register_optimizer_step_post_hook(end)
"""
"""Ends a training after its first optimizer step. Torch is imported a little earlier than without it."""
KEYS = {"total_steps": 1, "save_step": 1000, "eval_step": 1000, "log_step": 1000, "gradient_accumulate_steps": 1}
SECONDS = 3


class Bench:
    """The commands and what they need.

    Args:
        folder: where everything is written.
        size: size of the backbone, as in ``elp mini-backbone``.
        adapter: adapter preset.
        threads: value of ``OMP_NUM_THREADS``.
    """

    def __init__(self, folder: Path, *, size: str, adapter: str, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.backbone, self.exported, self.wav = folder / "backbone.pt", folder / "exported", folder / "wave.wav"
        data = ",,".join(
            [f"config.runner.{key}={value}" for key, value in KEYS.items()]
            + ["config.downstream_expert.datarc.train_batch_size=2"]
        )
        corpus = folder / "data"
        self.run = ["run", "-m", "train", "-u", "elp_local", "-k", str(self.backbone), "-g", adapter, "-d", "elp_ic"]
        self.run += ["--data", str(corpus), "--device", "cpu", "-o", data]
        self._call(["mini-superb", str(corpus), "--size", "tiny"])
        self._call(["mini-backbone", str(self.backbone), "--size", size])
        self._call([*self.run, "-p", str(folder / "trained")])
        self._call(["export", str(folder / "trained"), str(self.exported)])
        self._write_wave()

    def _write_wave(self) -> None:
        import numpy as np
        import soundfile

        wav = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * 16_000)
        soundfile.write(self.wav, wav.astype(np.float32), 16_000)

    def rows(self) -> dict[str, list[str]]:
        """The arguments of each row's command."""
        infer = ["infer", str(self.exported), str(self.wav), "--backbone", str(self.backbone), "--device", "cpu"]
        return {"import torch": [], "elp --help": ["--help"], "elp infer": infer, "elp run, first step": self.run}

    def timed(self, name: str, checkout: Path) -> tuple[float, float]:
        """Elapsed and processor seconds of a row's command, with the code of a checkout."""
        words, code = self.rows()[name], COMMAND
        if not words:
            code = name
        if name.endswith("first step"):
            folder = self.folder / "run"
            shutil.rmtree(folder, ignore_errors=True)
            words, code = [*words, "-p", str(folder)], FIRST_STEP + COMMAND
        began = time.time()
        said, used = self._call(words, code=code, checkout=checkout)
        ended = time.time()
        for line in said.splitlines():
            if line.startswith("step "):
                ended, used = map(float, line.split()[1:])
        return ended - began, used

    def _call(self, words: list[str], *, code: str = COMMAND, checkout: Path = HERE) -> tuple[str, float]:
        """Run a command; return what it printed, and its processor seconds."""
        env = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": str(checkout)}
        command = [sys.executable, "-c", code, *words]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(command, env=env, stdout=out, stderr=err, cwd=checkout)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            for stream in (out, err):
                stream.seek(0)
            if process.returncode:
                raise click.ClickException(f"elp {' '.join(words)}: {err.read().strip()[-500:]}")
            return out.read(), usage.ru_utime + usage.ru_stime


def measure(bench: Bench, checkouts: dict[str, Path], rounds: int) -> list[dict[str, Any]]:
    """Time every row in turns, and return medians and minima."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    pairs = [(row, code) for row in bench.rows() for code in checkouts]
    turns = [(number, pair) for number in range(rounds + 1) for pair in pairs[:: 1 if number % 2 else -1]]
    with click.progressbar(turns, label="starts", file=sys.stderr) as bar:
        for number, (row, code) in bar:
            found = bench.timed(row, checkouts[code])
            if number:
                times.setdefault((row, code), []).append(found)
    lines = []
    for row, code in pairs:
        seconds, used = zip(*times[row, code], strict=True)
        lines.append(
            {
                "start of": row,
                "code": code,
                "s": statistics.median(seconds),
                "least s": min(seconds),
                "CPU s": statistics.median(used),
                "least CPU s": min(used),
            }
        )
    return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", default="base", show_default=True, help="Size of the backbone: mini, base or large.")
@click.option("--adapter", default="le", show_default=True, help="Adapter preset.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Counted runs of each row.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="OMP_NUM_THREADS.")
@click.option("--against", type=click.Path(exists=True, path_type=Path), help="Another checkout of this repository.")
@click.option("--folder", type=click.Path(path_type=Path), help="Parent of the temporary folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(
    size: str, adapter: str, rounds: int, threads: int, against: Path | None, folder: Path | None, out: Path | None
) -> None:
    """Measure the starts of three commands."""
    from tabulate import tabulate

    checkouts = {"this": HERE} if against is None else {"other": against.resolve(), "this": HERE}
    top = Path(tempfile.mkdtemp(prefix="elp-starts-", dir=folder))
    try:
        rows = measure(Bench(top, size=size, adapter=adapter, threads=threads), checkouts, rounds)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    click.echo(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {size}, {adapter}")
    click.echo(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))
    if out is not None:
        out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
