"""Our training loop: a run that is interrupted, by anything and at any time, ends like an uninterrupted one."""

import itertools
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from downstream_heads import registry
from tests.checkpoints import load_states
from tests.programs import call, ended, launch
from tests.toys import tiny_backbone
from tests.training_tools import (
    STEPS,
    assert_same,
    assert_same_run,
    flags_of,
    forget_after,
    lines_of,
    resuming,
    with_settings,
)
from upstream_elp.base import energy, randomness
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import existing, saving
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.run import run
from upstream_elp.training import stop
from upstream_elp.training.steps import Steps

TASKS = registry.names()
pytestmark = pytest.mark.usefixtures("cache")


def _cases(tasks, value, *, slow=False):
    return [pytest.param(task, value, marks=pytest.mark.slow if slow else ()) for task in tasks]


@pytest.mark.parametrize(
    ("task", "workers"),
    [*_cases(TASKS, 0), *_cases(["elp_sv"], 2), *_cases([task for task in TASKS if task != "elp_sv"], 2, slow=True)],
)
def test_resumed_equals_never_stopped(task, workers, data, tmp_path):
    """Stopped after every saved step."""
    expdir, straight = tmp_path / "exp", tmp_path / "straight"
    run(flags_of(task, data, expdir, workers=workers))
    shutil.copytree(expdir, straight)
    for step in (2, 4, 6) if workers == 0 else (4,):
        forget_after(expdir, step)
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step)
        run(["-m", "train", "-a", "-p", str(expdir), "--data", str(data), "--device", "cpu"])
        assert_same_run(straight, expdir)


SCHEDULES = ["null", "{name: linear_schedule_with_warmup, num_warmup_steps: 2}", "{name: ELPWarmup, decay: cosine}"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_changed_on_resume_counts(schedule, data, tmp_path):
    """After changing learning rates and steps, the rates are those of a run that had them from the start."""
    first = "optimizer={name: ELPAdam, lr: 0.001, groups: {l_adapter: 0.002}}"
    then = ("optimizer.lr=0.0005", "optimizer.groups.l_adapter=0.004", "runner.total_steps=8")
    flags = with_settings(flags_of("elp_ic", data, tmp_path / "exp", log_step=1), first, f"scheduler={schedule}")
    run(with_settings(flags, "runner.total_steps=4"))
    run(resuming(tmp_path / "exp", data, *then))
    flags[flags.index("-p") + 1] = str(tmp_path / "straight")
    run(with_settings(flags, *then))
    one, other = ([line["lr"] for line in lines_of(tmp_path / name / "train.jsonl")] for name in ("exp", "straight"))
    assert one[4:] == other[4:] and one[:4] != other[:4]
    assert one[4]["head"] != one[4]["l_adapter"] != one[3]["l_adapter"]


def test_another_optimizer_on_resume_starts_anew(data, tmp_path):
    flags = with_settings(
        flags_of("elp_ic", data, tmp_path), "runner.total_steps=4", "optimizer={name: ELPAdam, lr: 0.001}"
    )
    run(flags)
    run(
        resuming(tmp_path, data, "runner.total_steps=6", "optimizer={name: TorchOptim, torch_optim_name: SGD, lr: 0.1}")
    )
    assert load_states(tmp_path / "states-6.ckpt")["Optimizer"]["param_groups"][0]["lr"] == 0.1


def test_fused_kernels_resume_and_can_be_chosen_on_resume(data, tmp_path):
    """A run that resumes with them ends as one that had them, up to the rounding of the steps before."""
    flags = with_settings(flags_of("elp_ic", data, tmp_path / "straight"), "optimizer={name: ELPAdam, lr: 0.001}")
    fused = with_settings(flags, "optimizer.fused=true")
    run(fused)
    shutil.copytree(tmp_path / "straight", tmp_path / "again")
    (tmp_path / "again" / "states-8.ckpt").unlink()
    run(resuming(tmp_path / "again", data))
    assert_same_run(tmp_path / "straight", tmp_path / "again")
    flags[flags.index("-p") + 1] = str(tmp_path / "late")
    run(with_settings(flags, "runner.total_steps=4"))
    run(resuming(tmp_path / "late", data, "runner.total_steps=8", "optimizer.fused=true"))
    one, other = (load_states(tmp_path / name / "states-8.ckpt") for name in ("straight", "late"))
    assert [group["fused"] for group in other["Optimizer"]["param_groups"]] == [True] * len(
        other["Optimizer"]["param_groups"]
    )
    for key, tensor in one["Downstream"].items():
        if tensor.is_floating_point() and "best_score" not in key:
            torch.testing.assert_close(tensor, other["Downstream"][key], rtol=1e-3, atol=1e-5)


def test_an_optimizer_whose_settings_hold_objects_can_be_taken_up(data, tmp_path):
    flags = flags_of("elp_ic", data, tmp_path / "exp")
    run(with_settings(flags, "optimizer={name: AdamW_with_schedule, lr: 0.001, warmup_proportion: 0.5}"))
    shutil.copytree(tmp_path / "exp", tmp_path / "straight")
    for step in (6, 8):
        (tmp_path / "exp" / f"states-{step}.ckpt").unlink()
    run(resuming(tmp_path / "exp", data))
    assert_same_run(tmp_path / "straight", tmp_path / "exp")


def test_checkpoints_to_go_on_from(data, tmp_path, capfd):
    """Not the best one, which has no optimizer, nor one with later ones next to it; a finished run is reported."""
    expdir = tmp_path / "exp"
    flags = flags_of("elp_ic", data, expdir)
    run(flags)
    flags[flags.index("-p") + 1] = str(tmp_path / "new")
    with pytest.raises(
        ElpError, match=r"states-8\.ckpt is from step 8, and runner.total_steps is 8, so nothing is left"
    ):
        run([*flags, "-i", str(expdir / "states-8.ckpt")])
    for name, message in (
        ("dev-best.ckpt", r"dev-best\.ckpt has no optimizer state.*-i"),
        ("states-4.ckpt", r"exp contains later checkpoints \(states-6\.ckpt, states-8\.ckpt\).*-o args\.expdir="),
    ):
        with pytest.raises(ElpError, match=message):
            run(["-m", "train", "-e", str(expdir / name), "--data", str(data), "--device", "cpu"])
    before, report = lines_of(expdir / "train.jsonl"), json.loads((expdir / "results.json").read_text())
    capfd.readouterr()
    run(resuming(expdir, data))
    assert "all 8 steps are done" in capfd.readouterr().err
    again = json.loads((expdir / "results.json").read_text())
    assert lines_of(expdir / "train.jsonl") == before
    assert {key for key in report if report[key] != again[key]} <= {"written"}


def test_a_run_with_workers_equals_one_without(data, tmp_path):
    for workers in (0, 2):
        run(flags_of("elp_sv", data, tmp_path / f"exp{workers}", workers=workers))
    one, other = (load_states(tmp_path / f"exp{workers}" / f"states-{STEPS}.ckpt") for workers in (0, 2))
    for key in ("Upstream", "Featurizer", "Downstream", "Optimizer", "Random"):
        assert_same(one[key], other[key], key)


def test_evaluation_changes_nothing_in_training(data, tmp_path):
    for name, every in (("often", 2), ("never", 1000)):
        run(flags_of("elp_ic", data, tmp_path / name, eval_step=every))
    one, other = (load_states(tmp_path / name / f"states-{STEPS}.ckpt") for name in ("often", "never"))
    for key in ("Upstream", "Featurizer", "Optimizer", "Random"):
        assert_same(one[key], other[key], key)


def test_checkpoints_hold_what_is_trained_and_no_more(data, tmp_path):
    run(flags_of("elp_ic", data, tmp_path, max_keep=2))
    assert [path.name for path in existing.states(tmp_path)] == ["states-6.ckpt", "states-8.ckpt"]
    states = load_states(tmp_path / "states-8.ckpt")
    assert not any("q_proj" in key or "conv" in key for key in states["Upstream"])
    trained = sum(len(group["params"]) for group in states["Optimizer"]["param_groups"])
    assert trained == len(states["Optimizer"]["state"])  # nothing frozen is in the optimizer
    best = load_states(tmp_path / "dev-best.ckpt")
    assert (
        not {"Optimizer", "Random", "Records"} & set(best) and best["Downstream"].keys() == states["Downstream"].keys()
    )


def test_a_run_that_is_shorter_than_a_log_step_has_taken_time(data, tmp_path):
    run(flags_of("elp_ic", data, tmp_path, log_step=1000))
    assert json.loads((tmp_path / "results.json").read_text())["seconds"] > 0.1


def test_energy_is_that_of_all_processes_of_the_run(data, tmp_path, monkeypatch):
    values = itertools.count(100)  # a joule per reading
    counter = energy.Counter(energy.PROCESSORS, lambda: next(values))
    monkeypatch.setattr(energy, "readable", lambda identities: ([counter], {}))
    run(flags_of("elp_ic", data, tmp_path, log_step=2))
    results = json.loads((tmp_path / "results.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["joules"] for line in lines] == [{"processors": 1.0}] * 4
    assert results["energy_joules"] == {"processors": 5.0}  # and since the last line
    forget_after(tmp_path, 4)
    run(resuming(tmp_path, data))
    assert json.loads((tmp_path / "results.json").read_text())["energy_joules"] == {"processors": 5.0}  # two kept lines
    monkeypatch.setattr(energy, "readable", lambda identities: ([], {}))
    forget_after(tmp_path, 4)
    run(resuming(tmp_path, data))  # where no counter can be read
    assert json.loads((tmp_path / "results.json").read_text())["energy_joules"] is None


def test_random_states_come_back():
    before = randomness.capture()
    drawn = random.random(), np.random.rand(), torch.rand(1)
    np.random.standard_normal()  # also caches a second number
    kept = randomness.capture()
    after = random.random(), np.random.standard_normal(), torch.rand(1)
    randomness.restore(kept)
    assert (random.random(), np.random.standard_normal(), torch.rand(1)) == after
    randomness.restore(before)
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn


# --- stopped from outside ---------------------------------------------------------------------------------------


def _start(flags, **environment):
    return launch([sys.executable, "-m", "upstream_elp.run", *flags], **environment)


def _wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, ended(process, 1).stderr
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_saves_and_ends(number, data, tmp_path):
    process = _start(
        flags_of("elp_ic", data, tmp_path, workers=2, total_steps=100_000, save_step=100_000, eval_step=100_000)
    )
    _wait_for(tmp_path / "train.jsonl", process)
    os.kill(process.pid, number)
    done = ended(process, 60)
    assert done.returncode == 143, done.stderr
    assert f"stopped by {number.name} after step" in done.stderr and "Traceback" not in done.stderr
    (path,) = existing.states(tmp_path)
    states = load_states(path)
    assert path.name == f"states-{states['Step']}.ckpt" and states["Random"]


@pytest.fixture
def in_evaluation(monkeypatch):
    """Calls the functions of a list, one in each evaluation, before the first batch is scored."""
    from downstream_heads.elp_ic import task

    actions, original = [], task.DownstreamExpert.forward

    def forward(self, split, *others, batch_id=None, **kwargs):
        if batch_id == 0 and actions:
            actions.pop(0)()
        return original(self, split, *others, **kwargs)

    monkeypatch.setattr(task.DownstreamExpert, "forward", forward)
    return actions


def _one_by_one(flags):
    """Evaluation in batches of one, so that most are still to be read when the first is scored."""
    flags[flags.index("-o") + 1] += ",,config.downstream_expert.datarc.eval_batch_size=1"
    return flags


def test_a_signal_breaks_an_evaluation_off_and_the_resumed_run_makes_it(in_evaluation, data, tmp_path):
    """A long evaluation would outlast the time that a batch system leaves; the signal comes twice, as from torchrun."""

    def stop():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    straight, expdir = tmp_path / "straight", tmp_path / "exp"
    flags = _one_by_one(flags_of("elp_ic", data, straight, eval_dataloaders="['dev', 'test']", save_step=3))
    run(flags)
    flags[flags.index("-p") + 1] = str(expdir)
    resume = ["-m", "train", "-a", "-p", str(expdir), "--data", str(data), "--device", "cpu"]
    for undisturbed, step, pending in ((0, 4, ["dev", "test"]), (1, 4, ["test"]), (2, 8, ["test"])):
        in_evaluation[:] = [*[lambda: None] * undisturbed, stop]
        with pytest.raises(SystemExit, match="143"):
            run(resume if existing.states(expdir) else flags)
        assert load_states(expdir / f"states-{step}.ckpt")["Position"]["pending"] == pending
    run(resume)
    assert_same_run(straight, expdir)


def test_an_evaluation_that_fails_loses_no_step(in_evaluation, data, tmp_path):
    """The steps before are saved, even if no save was due; the resumed run makes the evaluation."""

    def fail():
        raise ElpError("valid-000.wav holds samples that are not finite")

    straight, expdir = tmp_path / "straight", tmp_path / "exp"
    flags = flags_of("elp_ic", data, straight, eval_dataloaders="['dev', 'test']", save_step=3)
    run(flags)
    flags[flags.index("-p") + 1] = str(expdir)
    for start, undisturbed, pending in ((flags, 1, ["test"]), (resuming(expdir, data), 0, ["test"])):
        in_evaluation[:] = [*[lambda: None] * undisturbed, fail]
        with pytest.raises(ElpError, match=r"valid-000\.wav holds"):
            run(start)
        assert load_states(expdir / "states-4.ckpt")["Position"]["pending"] == pending
    run(resuming(expdir, data))
    assert_same_run(straight, expdir)


def test_signals_to_the_whole_group_spare_the_workers(in_evaluation, data, tmp_path):
    def signal_workers():
        workers = multiprocessing.active_children()
        assert workers
        for worker in workers:
            for number in stop.SIGNALS:
                os.kill(worker.pid, number)

    in_evaluation[:] = [signal_workers]
    run(_one_by_one(flags_of("elp_ic", data, tmp_path, workers=1)))
    assert not in_evaluation and (tmp_path / "dev-best.ckpt").is_file()


class Masks:
    """The items are the signals that are blocked where the item is read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def get_dataloader(self, split):
        return DataLoader(self, num_workers=1, collate_fn=list)


def test_workers_get_no_signal_while_they_start():
    from upstream_elp.training.batches import Epoch

    ((masks,),) = Epoch(Masks(), "train", epoch=0, seed=0)
    assert masks >= set(stop.SIGNALS)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(stop.SIGNALS)


def test_another_ctrl_c_ends_at_once_and_no_other_signal(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    with stop.noted() as request:
        for number in (*stop.SIGNALS, signal.SIGTERM, signal.SIGINT):
            request.note(number, None)
        assert request.name == "SIGTERM" and not killed
        monkeypatch.setattr(stop, "IMPATIENCE", 0)
        request.note(signal.SIGTERM, None)
        assert not killed
        request.note(signal.SIGINT, None)
        assert killed == [signal.SIGINT]


def test_killed_anywhere_and_resumed_equals_never_stopped(data, tmp_path):
    """Killed a few times, without a chance to save anything; `recipes/bench/kill.py` does it a hundred times."""
    straight, expdir = tmp_path / "straight", tmp_path / "exp"
    flags = flags_of("elp_ic", data, straight)
    run(flags)
    flags[flags.index("-p") + 1] = str(expdir)
    for step in (2, 4, 6):
        process = _start([*flags, "-a"] if step > 2 else flags)
        _wait_for(expdir / f"states-{step}.ckpt", process)
        process.kill()
        assert ended(process, 60).returncode == -signal.SIGKILL, "it had ended by itself"
    run(["-m", "train", "-a", "-p", str(expdir), "--data", str(data), "--device", "cpu"])
    assert_same_run(straight, expdir)


def test_what_a_kill_before_the_first_checkpoint_left_does_not_stay(data, tmp_path):
    """Log lines of the attempt, and half a checkpoint."""
    straight, expdir = tmp_path / "straight", tmp_path / "exp"
    flags = flags_of("elp_ic", data, straight)
    run(flags)
    expdir.mkdir()
    for name in ("train.jsonl", "metrics.jsonl"):
        lines = (straight / name).read_text().splitlines()
        (expdir / name).write_text(f"{lines[0]}\n{lines[1][:20]}")
    (expdir / ".states-2.ckpt.abcdefgh").write_bytes(b"half a checkpoint")
    flags[flags.index("-p") + 1] = str(expdir)
    run([*flags, "-a"])
    assert_same_run(straight, expdir)
    assert not list(expdir.glob(".*"))


LOADING = """
import time
import numpy
from torch.utils.data import DataLoader
from upstream_elp.training.batches import Undisturbed

waves = [numpy.zeros(100_000, numpy.float32)] * 50  # one is more than a pipe holds
loader = DataLoader(waves, batch_size=None, num_workers=2, collate_fn=list, worker_init_fn=Undisturbed(None))
batches = iter(loader)
next(batches)
print(*[worker.pid for worker in batches._workers], flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="asks Linux which processes there are")
def test_workers_end_with_a_killed_run():
    """This includes workers whose last batches are never read, which would keep their memory forever."""
    process = subprocess.Popen([sys.executable, "-c", LOADING], stdout=subprocess.PIPE, text=True)
    workers = process.stdout.readline().split()
    assert len(workers) == 2
    time.sleep(1)  # until they wait for somebody to read
    process.kill()
    process.wait()
    end = time.monotonic() + 30  # torch's workers look every five seconds whether their main process is there
    while left := [worker for worker in workers if Path("/proc", worker).exists()]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_twenty_times(data, tmp_path):
    script = Path(__file__).parents[2] / "recipes" / "bench" / "kill.py"
    flags = ["--data", str(data), "--backbone", str(tiny_backbone()), "--kills", "20", "--steps", "12"]
    command = [sys.executable, str(script), *flags, "--out", str(tmp_path / "out")]
    done = call(command, seconds=600)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "out" / "kill.json").read_text())
    assert result["kills"] == 20 and result["in the middle of a write"] and result["interrupted runs compared"]


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    saving.write(Checkpoint(step=1), tmp_path, ["states-1.ckpt"], max_keep=1)

    def full(states, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ElpError, match=r"states-2\.ckpt cannot be written \(No space left.*resume from states-1\.ckpt"):
        saving.write(Checkpoint(step=2), tmp_path, ["states-2.ckpt"], max_keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["states-1.ckpt"]
    with pytest.raises(ElpError, match="two checkpoints of this run need"):
        saving.check_room(tmp_path, 10**15)


def test_a_damaged_checkpoint_names_the_one_before(data, tmp_path):
    run(flags_of("elp_ic", data, tmp_path))
    path = tmp_path / f"states-{STEPS}.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ElpError, match=r"states-8\.ckpt .* cut off or damaged; .* resumes from states-6\.ckpt"):
        run(["-m", "train", "-a", "-p", str(tmp_path), "--data", str(data), "--device", "cpu"])


@pytest.fixture
def poisoned(monkeypatch):
    """Make the losses of the given steps not finite."""
    from downstream_heads.elp_ic import task

    steps = set()
    original = task.DownstreamExpert.forward
    calls = []

    def forward(self, split, features, *others, **kwargs):
        loss = original(self, split, features, *others, **kwargs)
        if split == "train":
            calls.append(1)
            return loss * float("nan") if (len(calls) + 1) // 2 in steps else loss
        return loss

    monkeypatch.setattr(task.DownstreamExpert, "forward", forward)
    return steps


def test_steps_that_are_not_finite_are_skipped_and_counted(poisoned, data, tmp_path, capfd):
    poisoned |= {3, 5}
    run(flags_of("elp_ic", data, tmp_path))
    states = load_states(tmp_path / f"states-{STEPS}.ckpt")
    assert states["Position"]["skipped"] == 2 and states["Position"]["in_a_row"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in states["Upstream"].values())
    assert "step 3 is skipped: the loss is not finite (1 in a row)" in capfd.readouterr().err


def test_a_loss_that_is_not_finite_is_not_a_step_whatever_its_gradient(data, tmp_path, monkeypatch):
    from downstream_heads.elp_ic import task

    original = task.DownstreamExpert.forward
    monkeypatch.setattr(task.DownstreamExpert, "forward", lambda *args, **kwargs: original(*args, **kwargs) + math.inf)
    with pytest.raises(ElpError, match="2 steps in a row were skipped, the last one because the loss is not finite"):
        run(flags_of("elp_ic", data, tmp_path, max_failed_steps=2))
    assert not load_states(tmp_path / "states-2.ckpt")["Optimizer"]["state"]


def test_too_many_in_a_row_end_the_run_with_a_checkpoint(poisoned, data, tmp_path):
    poisoned |= {3, 4, 5}
    with pytest.raises(ElpError, match=r"3 steps in a row were skipped, .*resume from .*states-5\.ckpt"):
        run(flags_of("elp_ic", data, tmp_path, max_failed_steps=3))
    states = load_states(tmp_path / "states-5.ckpt")
    assert all(torch.isfinite(tensor).all() for tensor in states["Upstream"].values())


def test_a_batch_that_does_not_fit_is_skipped(data, tmp_path, monkeypatch, capfd):
    original, calls = Steps.backward, []

    def backward(self, batch):
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(self, batch)

    monkeypatch.setattr(Steps, "backward", backward)
    run(flags_of("elp_ic", data, tmp_path))
    assert "step 2 is skipped: out of memory with waves of" in capfd.readouterr().err
    assert load_states(tmp_path / f"states-{STEPS}.ckpt")["Position"]["skipped"] == 1


# --- precision and memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "precision"),
    [
        *_cases(["elp_asr", "elp_er"], "bf16"),
        *_cases(["elp_ic", "elp_sv"], "fp16"),
        *_cases(["elp_ic", "elp_sv"], "bf16", slow=True),
        *_cases(["elp_asr", "elp_er"], "fp16", slow=True),
    ],
)
def test_mixed_precision_trains_and_evaluates(task, precision, data, tmp_path):
    run(flags_of(task, data, tmp_path, precision=precision))
    states = load_states(tmp_path / f"states-{STEPS}.ckpt")
    assert all(tensor.dtype == torch.float32 for tensor in states["Upstream"].values() if tensor.is_floating_point())
    assert ("Scaler" in states) is (precision == "fp16")
    full = tmp_path / "fp32"
    run(flags_of(task, data, full))
    losses = [[line["loss"] for line in lines_of(folder / "train.jsonl")] for folder in (tmp_path, full)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.2)


def test_gradient_checkpointing_gives_the_same_run(data, tmp_path):
    for name, value in (("with", True), ("without", False)):
        run(flags_of("elp_ic", data, tmp_path / name, preset="elp", gradient_checkpointing=value))
    one, other = (load_states(tmp_path / name / f"states-{STEPS}.ckpt") for name in ("with", "without"))
    for key in ("Upstream", "Featurizer", "Downstream", "Optimizer"):
        assert_same(one[key], other[key], key)


@pytest.mark.parametrize(
    ("task", "preset"), [*_cases(["elp_ic"], "le"), *_cases(["elp_asr", "elp_er", "elp_sv"], "elp", slow=True)]
)
def test_s3prls_own_loop_evaluates_our_checkpoints_alike(task, preset, data, tmp_path):
    run(flags_of(task, data, tmp_path, preset=preset))
    best = next(tmp_path.glob("*-best.ckpt"))
    for extra in ([], ["--stock-loop"]):
        run(["-m", "evaluate", "-e", str(best), "--data", str(data), "--device", "cpu", *extra])
    ours, stock = lines_of(tmp_path / "metrics.jsonl")[-2:]
    assert ours == stock and ours["split"].startswith("test")
    (known,) = json.loads((tmp_path / "results.json").read_text())["tests"]
    assert known["metrics"] == ours["metrics"] and known["checkpoint"] == best.name


# --- what a person sees -----------------------------------------------------------------------------------------


def test_the_bar_shows_loss_rate_metric_and_speed(data, tmp_path, capfd):
    run(flags_of("elp_ic", data, tmp_path, log_step=1))
    shown = capfd.readouterr().err
    assert re.search(r"8/8 .*loss=[\d.]+, lr=0\.0001, dev-acc=[\d.]+, utt/s=[\d.]+\]", shown)


def test_a_head_that_no_gradient_reaches_is_reported(data, tmp_path, monkeypatch, capfd):
    from downstream_heads.elp_ic import task

    build = task.DownstreamExpert.__init__

    def with_a_spare_part(self, **kwargs):
        build(self, **kwargs)
        self.spare = torch.nn.Linear(2, 2)

    run(flags_of("elp_ic", data, tmp_path / "good"))
    assert "no gradient reaches" not in capfd.readouterr().err
    monkeypatch.setattr(task.DownstreamExpert, "__init__", with_a_spare_part)
    run(flags_of("elp_ic", data, tmp_path / "spare"))
    assert (
        capfd.readouterr().err.count("no gradient reaches Downstream.spare.weight, Downstream.spare.bias in the") == 1
    )
