"""Trainings stated in epochs: how many steps they are, what is evaluated, and how they resume."""

import json

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests import toy_corpora
from tests.task_runs import flags, options
from tests.toys import tiny_backbone
from tests.training_tools import forget_after
from upstream_elp.base.epochs import epochs_of
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run
from upstream_elp.training.duration import in_steps


class Head:
    """A task whose epochs have 5, 6, 7, … batches."""

    def get_dataloader(self, split, epoch=0):
        torch.rand(3)  # building a loader may draw numbers
        return DataLoader(range(5 + epoch), batch_size=1)


class Endless(Head):
    def get_dataloader(self, split, epoch=0):
        return DataLoader(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})())


def block(total, accumulate=1, evaluation=10):
    return {"total_steps": total, "gradient_accumulate_steps": accumulate, "eval_step": evaluation}


@pytest.mark.parametrize(
    ("total", "accumulate", "steps"), [(7, 1, 7), ("1 epoch", 1, 5), ("3 epochs", 1, 18), ("3 epochs", 4, 4)]
)
def test_steps_of_epochs(total, accumulate, steps):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = in_steps(block(total, accumulate), Head(), "train", seed=1)
    assert found == {**block(steps, accumulate)}
    assert in_steps(block(total, accumulate, "last"), Head(), "train", seed=1)["eval_step"] == steps
    assert torch.equal(before, torch.get_rng_state())


def test_what_epochs_are():
    assert [epochs_of(value) for value in ("6 epochs", "1 epoch", "12 epochs")] == [6, 1, 12]
    assert not any(epochs_of(value) for value in (6, "6", "0 epochs", "-1 epochs", "1.5 epochs", "six epochs", None))


def test_epochs_that_no_step_fits_in():
    with pytest.raises(ElpError, match=r"total_steps must be at least one step long, but is '1 epoch', which is 5 bat"):
        in_steps(block("1 epoch", 6), Head(), "train", seed=1)
    with pytest.raises(ElpError, match=r"total_steps must be a number of steps .* no known length, but is '2 epochs'"):
        in_steps(block("2 epochs"), Endless(), "train", seed=1)


def started(data, exp, *more, **runner):
    flag, text = options("elp_ic", "linear", log_step=1, **runner)
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone())]
    run(["-m", "train", *upstream, *flags("elp_ic", data, exp), flag, text, *more])
    return [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve training utterances; tests must not write to them."""
    folder = tmp_path_factory.mktemp("data")
    toy_corpora.fluent_speech_commands(folder, counts={"train": 12, "valid": 4, "test": 4})
    return folder


SCHEDULE = ",,config.scheduler={name: ELPMultipliers, multipliers: [1.0, 0.5, 0.25]}"
BATCHES = {"total_steps": "3 epochs", "eval_step": "last", "save_step": 100}
SIZE = "config.downstream_expert.datarc.train_batch_size=5"


def test_a_run_of_epochs(data, tmp_path):
    """Three epochs of twelve utterances in batches of five are nine steps; only the last one is evaluated."""
    flag, text = options("elp_ic", "linear", log_step=1, **BATCHES)
    text = f"{text},,{SIZE}{SCHEDULE}"
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone())]
    whole, half = tmp_path / "whole", tmp_path / "half"
    run(["-m", "train", *upstream, *flags("elp_ic", data, whole), flag, text])
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "dev"] == [9]
    rates = [json.loads(line)["lr"]["group0"] for line in (whole / "train.jsonl").read_text().splitlines()]
    assert [rate / rates[0] for rate in rates] == pytest.approx([1.0] * 3 + [0.5] * 3 + [0.25] * 3)

    run(
        [
            "-m",
            "train",
            *upstream,
            *flags("elp_ic", data, half),
            flag,
            f"{text},,config.runner.save_step=4,,config.runner.max_keep=9",
        ]
    )
    forget_after(half, 4)
    run(["-m", "train", "-e", str(half), "--data", str(data), "--device", "cpu"])
    one, two = (torch.load(exp / "states-9.ckpt", weights_only=True) for exp in (whole, half))
    assert all(torch.equal(one["Downstream"][key], two["Downstream"][key]) for key in one["Downstream"])


def test_steps_can_replace_epochs_in_a_resumed_run(data, tmp_path):
    exp = tmp_path / "exp"
    started(data, exp, total_steps="1 epoch", eval_step="last")
    steps = max(int(path.stem.split("-")[1]) for path in exp.glob("states-*.ckpt"))
    more = ["-o", f"config.runner.total_steps={steps + 2}"]
    run(["-m", "train", "-e", str(exp), "--data", str(data), "--device", "cpu", *more])
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "dev"] == [steps, steps + 2]


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ({"total_steps": "0 epochs"}, r"total_steps must be a whole number of at least 1, or epochs such as 7 epochs"),
        ({"total_steps": "seven epochs"}, r"or epochs such as 7 epochs, but is 'seven epochs'"),
        ({"eval_step": "end"}, r"runner\.eval_step must be a whole number of at least 1, or last, but is 'end'"),
        ({"save_step": "last"}, r"runner\.save_step must be a whole number of at least 1, but is 'last'"),
    ],
)
def test_wrong_values(data, tmp_path, runner, message):
    with pytest.raises(ElpError, match=message):
        started(data, tmp_path / "exp", **runner)


def test_the_stock_loop_knows_no_epochs(data, tmp_path):
    with pytest.raises(ElpError, match=r"--stock-loop: runner\.total_steps and runner\.eval_step must be numbers"):
        started(data, tmp_path / "exp", "--stock-loop", total_steps="1 epoch")


def test_the_stock_loop_knows_no_trackers(data, tmp_path):
    with pytest.raises(ElpError, match=r"--stock-loop: runner\.trackers must be empty"):
        started(data, tmp_path / "exp", "--stock-loop", trackers=["wandb"])
