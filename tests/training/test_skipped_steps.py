"""Skipped steps have no side effects, and all counters are correct."""

import json
import math
import subprocess
import sys

import pytest
import torch

from tests.checkpoints import load_states
from tests.training_tools import flags_of, lines_of, resuming, with_settings
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import saving
from upstream_elp.run import run
from upstream_elp.training import loop
from upstream_elp.training.steps import Steps

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def poison(monkeypatch):
    """Make the features of the given training batches (from 1) not finite."""
    chosen, seen, original = set(), [], Steps.backward

    def backward(self, batch):
        seen.append(1)
        if len(seen) in chosen:
            features = self.runner.features
            self.runner.features = lambda *given: [feature * math.nan for feature in features(*given)]
            try:
                return original(self, batch)
            finally:
                del self.runner.features
        return original(self, batch)

    monkeypatch.setattr(Steps, "backward", backward)
    return chosen


def test_batch_norm_keeps_its_means(poison, data, tmp_path):
    """The forward pass changes them before it is known that the step will be skipped."""
    sizes = "downstream_expert.modelrc.superb={input_dim: 8, agg_dim: 8, batch_norm: true}"
    poison |= {3}
    run(with_settings(flags_of("elp_sv", data, tmp_path), "downstream_expert.modelrc.head=superb", sizes))
    states = load_states(tmp_path / "states-8.ckpt")
    assert states["Position"]["skipped"] == 1
    means = {name: value for name, value in states["Downstream"].items() if name.endswith(("_mean", "_var"))}
    assert means and all(torch.isfinite(value).all() for value in means.values())
    values = [line["metrics"]["eer"] for line in lines_of(tmp_path / "metrics.jsonl") if line["split"] == "dev"]
    assert values and None not in values


def test_overflows_of_fp16_are_counted_and_reported(data, tmp_path, monkeypatch, capfd):
    """Each one halves the loss scale without moving any weight."""
    prepare = loop.prepare

    def with_overflows(runner):
        state = prepare(runner)
        state.parameters[-1].register_hook(lambda gradient: gradient * math.inf)
        return state

    monkeypatch.setattr(loop, "prepare", with_overflows)
    run(flags_of("elp_ic", data, tmp_path, precision="fp16", max_failed_steps=3))
    states = load_states(tmp_path / "states-8.ckpt")
    assert (states["Position"]["overflows"], states["Position"]["skipped"]) == (8, 0)
    assert not states["Optimizer"]["state"]
    assert json.loads((tmp_path / "results.json").read_text())["fp16_overflows"] == 8
    assert "fp16 overflows" in capfd.readouterr().out


def test_utterances_are_counted_across_a_stop(data, tmp_path):
    """Eight steps of two batches of three, where the data set has a smaller batch at its end."""
    run(flags_of("elp_ic", data, tmp_path, log_step=4, save_step=1))
    straight = [line["utterances"] for line in lines_of(tmp_path / "train.jsonl")]
    for step in (7, 8):
        (tmp_path / f"states-{step}.ckpt").unlink()
    run(resuming(tmp_path, data))
    assert [line["utterances"] for line in lines_of(tmp_path / "train.jsonl")] == straight


def test_a_second_training_in_the_folder_is_refused(data, tmp_path):
    flags = flags_of("elp_ic", data, tmp_path / "exp", total_steps=2)
    run(flags)
    code = (
        "import sys, pathlib\nfrom upstream_elp.experiment import saving\n"
        "with saving.alone_in(pathlib.Path(sys.argv[1])):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "exp")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ElpError, match=r"another process is training in .*exp; wait"):
            run(resuming(tmp_path / "exp", data, "runner.total_steps=4"))
        other.kill()  # as a cluster may: nothing is to be cleaned up
    run(resuming(tmp_path / "exp", data, "runner.total_steps=4"))
    assert not list((tmp_path / "exp").glob(".*"))
    with saving.alone_in(tmp_path):
        pass


def _rates(folder):
    return [next(iter(line["lr"].values())) for line in lines_of(folder / "train.jsonl")]


SCHEDULE = "scheduler={name: ELPWarmup, warmup: 2, decay: linear}"


@pytest.mark.parametrize(
    "before", ["scheduler=null", "scheduler={name: linear_schedule_with_warmup, num_warmup_steps: 2}"]
)
def test_a_schedule_that_is_new_on_resume_is_at_the_runs_step(before, data, tmp_path):
    straight, expdir = tmp_path / "straight", tmp_path / "exp"
    for folder, schedule in ((straight, SCHEDULE), (expdir, before)):
        run(with_settings(flags_of("elp_ic", data, folder, log_step=1), schedule))
    for step in (6, 8):
        (expdir / f"states-{step}.ckpt").unlink()
    run(resuming(expdir, data, SCHEDULE))
    assert _rates(expdir)[4:] == pytest.approx(_rates(straight)[4:])


def test_weights_of_a_best_checkpoint_are_taken_up_at_its_step(data, tmp_path):
    """The rates continue from there, and the first evaluation writes a best checkpoint, whatever the old score was."""
    first, then = tmp_path / "first", tmp_path / "then"
    quick = "optimizer={name: ELPAdam, lr: 0.001}"
    run(with_settings(flags_of("elp_ic", data, first, log_step=1), SCHEDULE, quick))
    best = load_states(first / "dev-best.ckpt")
    assert "Scheduler" not in best and best["Step"] == 4
    slow = "optimizer={name: ELPAdam, lr: 1.0e-9}"
    run(
        [*with_settings(flags_of("elp_ic", data, then, log_step=1), SCHEDULE, slow), "-i", str(first / "dev-best.ckpt")]
    )
    assert [rate / 1e-9 for rate in _rates(then)] == pytest.approx([rate / 1e-3 for rate in _rates(first)[4:]])
    assert load_states(then / "dev-best.ckpt")["Step"] == 8
