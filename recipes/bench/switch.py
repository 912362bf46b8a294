"""Time and memory of several adapters on one backbone, compared to one expert per adapter, with random weights.

Each row runs in a separate process, the rows take turns for several rounds, and a row's figure is its median. Times are
processor times, which other programs disturb little. Memory is counted in two ways: the bytes of all distinct tensors,
and the memory of the process (or the GPU) above that before loading, after a pass with every adapter and after the C
library has returned freed memory to the system.

    python recipes/bench/switch.py                  # Base-shaped WavLM, le and lora_qv8
    python recipes/bench/switch.py --presets le,lora_qv8,houlsby32,elp --out result/switch
"""

from __future__ import annotations

import csv
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import nn

ROWS = ("S3PRL's backbone", "one expert", "one expert per adapter", "one switch")
FIGURES = {
    "load": "load (s)",
    "tensors": "tensors (MB)",
    "held": "held (MB)",
    "peak": "peak while loading (MB)",
    "switch": "one switch (ms)",
}


@click.command()
@click.option("--family", default="wavlm", show_default=True)
@click.option("--size", default="base", show_default=True, help="mini, base or large.")
@click.option("--presets", default="le,lora_qv8", show_default=True, help="Adapters, separated by commas.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--switches", default=300, show_default=True, help="Timed switches per process.")
@click.option("--rounds", default=3, show_default=True, help="Processes per row.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write OUT.csv and OUT.json.")
@click.option("--worker", hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(rounds: int, out: Path | None, worker: str | None, folder: Path | None, **setting: Any) -> None:
    """Measure loading, memory and switching of several adapters on one backbone."""
    if worker:
        assert folder is not None
        print(json.dumps(measure(worker, folder, **setting)))
        return
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place), setting["family"], setting["size"], setting["presets"].split(","))
        runs: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
        order = [row for _ in range(rounds) for row in ROWS]
        with click.progressbar(order, label="processes", item_show_func=str, file=sys.stderr) as bar:
            for row in bar:
                runs[row].append(_spawn(row, place, setting))
    click.echo(table(runs, setting))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps({"setting": setting, "runs": runs}, indent=2), encoding="utf-8")
        with out.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["row", "round", *FIGURES])
            writer.writeheader()
            writer.writerows({"row": row, "round": i, **run} for row in runs for i, run in enumerate(runs[row]))


def write_files(place: Path, family: str, size: str, presets: list[str]) -> None:
    """Write a random backbone and one adapter folder per preset, with tensors moved off their initial values."""
    import torch

    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options
    from upstream_elp.upstream.adapter_folder import write_adapter_folder
    from upstream_elp.upstream.build import build_upstream
    from upstream_elp.upstream.transfer import adapter_folder_of

    path = write_backbone(place / "backbone.pt", family=family, **size_options(size, family))
    for index, preset in enumerate(presets):
        expert = build_upstream(None, ckpt=path, model_config=preset)
        with torch.no_grad():
            for parameter in expert.injection.parameters(expert).values():
                parameter.add_(0.01 * torch.randn_like(parameter))
        write_adapter_folder(place / f"{index}-{preset}", adapter_folder_of(expert))


def _spawn(row: str, place: str, setting: dict[str, Any]) -> dict[str, float]:
    flags = [part for key, value in setting.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, __file__, "--worker", row, "--folder", place, *flags]
    env = dict(os.environ, OMP_NUM_THREADS=str(setting["threads"]), PYTHONWARNINGS="ignore", ELP_SELF_CHECK="0")
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise click.ClickException(f"{row}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(
    row: str, folder: Path, *, family: str, size: str, presets: str, device: str, threads: int, switches: int
) -> dict[str, float]:
    """Run one row in this process; the keys are those of :data:`FIGURES`."""
    import torch

    import upstream_elp

    upstream_elp.register()
    from s3prl import hub

    from upstream_elp.upstream.build import load_backbone

    backbone = folder / "backbone.pt"
    adapters = {name: folder / f"{index}-{name}" for index, name in enumerate(presets.split(","))}
    torch.set_num_threads(threads)
    load: dict[str, Callable[[], list[nn.Module]]] = {
        ROWS[0]: lambda: [load_backbone(None, backbone, False, None)[0]],
        ROWS[1]: lambda: [hub.elp_local(ckpt=next(iter(adapters.values())), backbone=backbone)],
        ROWS[2]: lambda: [hub.elp_local(ckpt=path, backbone=backbone) for path in adapters.values()],
        ROWS[3]: lambda: [upstream_elp.load_adapters(adapters, backbone=backbone)],
    }
    memory = Memory(device)
    started = time.process_time()
    models = [model.to(device).eval() for model in load[row]()]
    loaded = time.process_time() - started
    peak = memory.peak()
    names = [*adapters, None] if row == ROWS[3] else []
    for model in models:
        for use in names or [None]:
            if names:
                model.use(use)
            with torch.no_grad():
                model([torch.randn(16000, device=device)])
    tensors = {id(t): t for model in models for t in [*model.parameters(), *model.buffers()]}
    result = {
        "load": loaded,
        "tensors": sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6,
        "held": memory.held(),
        "peak": peak,
    }
    if names:
        started = time.process_time()
        for step in range(switches):
            models[0].use(names[step % len(names)])
        result["switch"] = 1000 * (time.process_time() - started) / switches
    return result


class Memory:
    """Resident memory on the CPU, allocated memory on a GPU; megabytes (1e6 bytes) above the start."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak
        self.start = self._now()

    def held(self) -> float:
        """The memory in use now, without free memory that is kept for later."""
        gc.collect()
        trim = None if self.cuda else getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
        return (self._now() - self.start) / 1e6

    def peak(self) -> float:
        """The peak since the start."""
        import torch

        most = torch.cuda.max_memory_allocated() if self.cuda else self._status("VmHWM")
        return (most - self.start) / 1e6

    def _now(self) -> int:
        import torch

        return torch.cuda.memory_allocated() if self.cuda else self._status("VmRSS")

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def table(runs: dict[str, list[dict[str, float]]], setting: dict[str, Any]) -> str:
    """A Markdown table with medians over the processes, and the extremes of the times."""
    from tabulate import tabulate

    def cell(row: str, key: str) -> str:
        values = sorted(run[key] for run in runs[row] if key in run)
        if not values:
            return ""
        median = statistics.median(values)
        if key in ("load", "switch"):
            return f"{median:.2f} ({values[0]:.2f}-{values[-1]:.2f})"
        return f"{median:,.1f}"

    rows = [(row, *(cell(row, key) for key in FIGURES)) for row in runs]
    described = ", ".join(f"{key} {value}" for key, value in setting.items())
    head = ["", *FIGURES.values()]
    return f"{described}\n\n" + tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
