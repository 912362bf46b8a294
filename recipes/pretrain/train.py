"""Pretrain a small WavLM or HuBERT on synthesised speech.

    python recipes/pretrain/train.py SPEECH RUN --targets TARGETS --steps 20000 --precision bf16
    python recipes/pretrain/train.py SPEECH RUN --targets TARGETS --targets TARGETS2 --steps 20000 --resume
    torchrun --nproc-per-node 2 recipes/pretrain/train.py SPEECH RUN ...

RUN gets `state.pt` to resume from, `backbone-<step>.pt` in S3PRL's format, `log.jsonl` and `curve.png`. In fp32 on one
CPU, a run that was interrupted and resumed ends with the same bits.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
import torch.distributed as dist
from batches import Batches, BatchShape
from curve import draw_curve
from losses import GOALS
from model import FAMILIES, SHAPES
from speech import SAMPLE_RATE, Speech
from targets import MOST_CLASSES, read_targets
from tqdm import tqdm
from trainer import STATE, Trainer, join_processes, save_backbone

import upstream_elp
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_text
from upstream_elp.base.ranks import end_rank

LOG, CURVE = "log.jsonl", "curve.png"
VALIDATION_BATCHES = 6


class Log:
    """The lines of `log.jsonl`: one per ``log_every`` steps.

    Args:
        path: the file.
        step: lines of later steps, which a killed run may have written, are dropped.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if step and path.is_file() else []
        self.rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if row["step"] <= step]

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))


class Meter:
    """Losses, processor time and speed since the last line."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.cpu, self.wall = time.process_time(), time.monotonic()

    def row(self, trainer: Trainer, seconds: float, accuracies: dict[str, float]) -> dict[str, Any]:
        """Return a line; ``seconds`` is the audio of one step in this process."""
        cpu, wall = time.process_time() - self.cpu, time.monotonic() - self.wall
        audio = seconds * len(self.losses)
        return {
            "step": trainer.step,
            "loss": round(sum(self.losses) / len(self.losses), 4),
            "lr": trainer.rate(),
            "cpu_seconds": round(cpu, 1),
            "audio_per_cpu_second": round(audio / max(cpu, 1e-9), 1),
            "audio_per_second": round(audio / max(wall, 1e-9), 1),
            **{name: round(value, 4) for name, value in accuracies.items()},
        }


def train(
    trainer: Trainer, batches: Batches, out: Path, *, rank: int, until: int, minutes: float, every: int, save: int
) -> None:
    """Train up to a step or for some minutes, and write what a resumed run needs; only process 0 writes."""
    log = Log(out / LOG, step=trainer.step)
    validation = batches.validate(VALIDATION_BATCHES) if rank == 0 else []
    seconds = 2 * batches.shape.pairs * batches.shape.frames * 320 / SAMPLE_RATE
    meter, start = Meter(), time.monotonic()
    bar = tqdm(total=until, initial=trainer.step, desc="pretraining", unit="step", disable=None if rank == 0 else True)
    while trainer.step < until and not _out_of_time(start, minutes):
        loss, _ = trainer.advance(batches.train(trainer.step, rank))
        meter.losses.append(loss)
        bar.update()
        if trainer.step % every == 0 or trainer.step == until:
            if rank == 0:
                log.add(meter.row(trainer, seconds, trainer.validate(validation)))
                _show(bar, log.rows[-1])
            meter = Meter()
        if trainer.step % save == 0 and rank == 0:
            _save(trainer, out)
    bar.close()
    if rank == 0:
        _save(trainer, out)
        draw_curve(log.rows, out / CURVE)


def _out_of_time(start: float, minutes: float) -> bool:
    """Return whether the time is over; process 0 decides for all."""
    over = bool(minutes) and time.monotonic() - start > 60 * minutes
    if dist.is_initialized():
        answer = torch.tensor(int(over))
        dist.broadcast(answer, 0)
        return bool(answer)
    return over


def _save(trainer: Trainer, out: Path) -> None:
    save_backbone(trainer.checkpoint(), out / f"backbone-{trainer.step:06d}.pt")
    trainer.save(out / STATE)


def _show(bar: tqdm, row: dict[str, Any]) -> None:
    names = [name for name in row if name.removesuffix("_u") in GOALS or name == "crops"]
    shown = " ".join(f"{name} {100 * row[name]:.0f}" for name in names)
    bar.write(
        f"step {row['step']}: loss {row['loss']:.3f}, {shown}, {row['audio_per_cpu_second']:.0f} audio-s per CPU-s"
    )


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path))
@click.argument("out", metavar="RUN", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--targets", required=True, multiple=True, type=click.Path(path_type=Path), help="Folder of targets; repeatable."
)
@click.option("--steps", default=20_000, type=click.IntRange(min=1), help="Steps of the whole schedule.")
@click.option("--until", type=click.IntRange(min=1), help="Stop after this step, to resume later.")
@click.option("--minutes", default=0.0, help="Stop after this time, to resume later; 0 for no limit.")
@click.option("--resume", is_flag=True, help="Continue from RUN/state.pt.")
@click.option("--family", default="wavlm", type=click.Choice(FAMILIES))
@click.option("--size", default="mini", type=click.Choice(tuple(SHAPES)))
@click.option(
    "--pairs", default=8, type=click.IntRange(min=2), help="Utterances per step and process, with two crops each."
)
@click.option("--frames", default=128, type=click.IntRange(min=16), help="Frames of a crop, 20 ms each.")
@click.option("--span", default=5, type=click.IntRange(min=1), help="Frames of a masked span.")
@click.option("--mask", default=0.08, type=click.FloatRange(0, 1), help="Probability that a span starts at a frame.")
@click.option("--lr", default=1e-3, help="Highest learning rate.")
@click.option("--warmup", default=300, type=click.IntRange(min=1), help="Steps in which the rate rises.")
@click.option(
    "--decay-from",
    default=0.6,
    type=click.FloatRange(0, 1, max_open=True),
    help="Part of the steps after which the rate falls.",
)
@click.option("--clip", default=2.0, help="Largest norm of the gradient.")
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "bf16"]))
@click.option("--compile", "compiled", is_flag=True, help="Compile all but the positional convolution.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--threads", default=1, type=click.IntRange(min=1), help="CPU threads of each process.")
@click.option("--seed", default=0, type=click.IntRange(min=0))
@click.option("--log-every", default=250, type=click.IntRange(min=1))
@click.option("--save-every", default=1000, type=click.IntRange(min=1))
def main(speech: Path, out: Path, targets: tuple[Path, ...], **options: Any) -> None:
    """Pretrain on the folder SPEECH; write into the folder RUN."""
    torch.set_num_threads(options["threads"])
    upstream_elp.register()
    rank, processes = join_processes()
    source = Speech(speech)
    classes, labels = read_targets(targets, source)
    shape = BatchShape(**{key: options[key] for key in ("pairs", "frames", "span", "mask")})
    batches = Batches(source, labels, shape, seed=options["seed"])
    fixed = (
        "steps",
        "family",
        "size",
        "pairs",
        "frames",
        "span",
        "mask",
        "lr",
        "warmup",
        "decay_from",
        "clip",
        "precision",
        "seed",
    )
    config = {**{key: options[key] for key in fixed}, "compile": options["compiled"], "processes": processes}
    config["shards"] = source.manifest["shards"]
    state, resume = out / STATE, options["resume"]
    if state.is_file() and not resume:
        raise ElpError(f"{out} must be a new folder, but has a run; add --resume to continue it, or name another")
    if resume and not state.is_file():
        raise ElpError(f"--resume needs {state}, which does not exist; start without it")
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, {**classes, "states": MOST_CLASSES}, _device(options["device"]))
    if resume:
        trainer.load(state)
    until = min(options["until"] or options["steps"], options["steps"])
    limits = {
        "until": until,
        "minutes": options["minutes"],
        "every": options["log_every"],
        "save": options["save_every"],
    }
    train(trainer, batches, out, rank=rank, **limits)
    if processes > 1:
        dist.destroy_process_group()
        end_rank()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
