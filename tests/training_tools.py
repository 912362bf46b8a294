"""Short runs of our training loop on toy corpora, and a comparison of two runs."""

import json
from pathlib import Path

import torch

from tests.checkpoints import load_states
from tests.task_runs import SMALL, variant_of
from tests.toys import tiny_backbone
from upstream_elp.host import checkpoints

STEPS = 8


def flags_of(task, data, expdir, *, preset="le", workers=0, **changes):
    """The flags of a short run with all random parts: dropout, crops, an uneven last batch, accumulation."""
    runner = {
        "total_steps": STEPS,
        "eval_step": 4,
        "save_step": 2,
        "log_step": 3,
        "max_keep": 10,
        "gradient_accumulate_steps": 2,
    }
    expert = {"datarc.num_workers": workers, "datarc.train_batch_size": 3, **SMALL.get(task, {})}
    values = {f"config.runner.{key}": value for key, value in {**runner, **changes}.items()}
    values |= {f"config.downstream_expert.{key}": value for key, value in expert.items()}
    flags = ["-m", "train", "-u", "elp_local", "-k", str(tiny_backbone()), "-g", preset, "-d", task, "-p", str(expdir)]
    flags += ["--data", str(data), "--device", "cpu", "-o", ",,".join(f"{k}={v}" for k, v in values.items())]
    return flags + variant_of(task)


def with_settings(flags, *settings):
    """The same flags with more assignments in -o."""
    flags = [*flags]
    flags[flags.index("-o") + 1] += "".join(f",,config.{setting}" for setting in settings)
    return flags


def resuming(expdir, data, *settings):
    flags = ["-m", "train", "-a", "-p", str(expdir), "--data", str(data), "--device", "cpu"]
    return [*flags, *(["-o", ",,".join(f"config.{setting}" for setting in settings)] if settings else [])]


def forget_after(expdir, step):
    """Remove the checkpoints after a step, as if the run had been killed there."""
    for path in checkpoints.states(expdir):
        if int(path.stem.split("-")[-1]) > step:
            path.unlink()


def lines_of(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "seconds", "joules")} for line in lines]


def assert_same(first, second, where=""):
    """Compare nested values bit by bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert first == second or first != first, where


def assert_same_run(expected: Path, found: Path, *, except_config: bool = False) -> None:
    """Parameters, optimizer, schedule, random states and logged values are equal; times are not compared."""
    assert [path.name for path in checkpoints.states(found)][-1] == f"states-{STEPS}.ckpt"
    for name in (f"states-{STEPS}.ckpt", "dev-best.ckpt", "dev-clean-best.ckpt"):
        if (expected / name).exists():
            one, other = load_states(expected / name), load_states(found / name)
            for states in (one, other):
                for key in ("Args", "Config") if except_config else ("Args",):
                    states.pop(key)
            assert_same(one, other, name)
    for name in ("train.jsonl", "metrics.jsonl"):
        assert lines_of(expected / name) == lines_of(found / name), name
