"""``elp run`` in separate processes: the console command, spawned workers, ranks, and a user's own clone."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.host_toys import stock_config
from tests.programs import RUN, call, ended, launch
from tests.toys import tiny_backbone

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# like `python -m upstream_elp.run` and the console script `elp`, but with another way to start workers
STARTED = {
    "module": "runpy.run_module('upstream_elp.run', run_name='__main__', alter_sys=True)",
    "script": "sys.argv.insert(1, 'run'); runpy.run_path(path, run_name='__main__')",
}
SCRIPT = "import sys\nfrom upstream_elp.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def flags(root: Path, task: str = "fluent_commands", **runner) -> list[str]:
    config = stock_config(task, root, **runner)
    train = f"-m train -u wavlm_local -d {task} --device cpu".split()
    return [*train, "-k", str(tiny_backbone()), "-c", str(config), "-p", str(root / "exp")]


def test_a_run_and_a_mistake_as_programs(tmp_path):
    done = call([*RUN, *flags(tmp_path, total_steps=2, eval_step=2)])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exp" / "states-2.ckpt").is_file()
    wrong = call([*RUN, "-m", "train", "-d", "elp_sar"])
    assert wrong.returncode == 2
    assert wrong.stderr.strip().count("\n") == 0
    assert wrong.stderr.startswith("elp: error: -d elp_sar: no such name")


def test_a_bad_file_that_a_worker_meets_ends_the_run_with_its_path(tmp_path):
    """Its process ends too, although Python waits for workers when it exits."""
    from tests import toy_corpora
    from tests.audio_files import break_late

    root = toy_corpora.fluent_speech_commands(tmp_path)
    bad = sorted(root.rglob("train-*.wav"))[2]
    break_late(bad)
    words = f"-m train -u fbank -d elp_ic --device cpu --data {tmp_path} -p {tmp_path}/exp"
    done = call([*RUN, *words.split(), "-o", "config.downstream_expert.datarc.num_workers=1"])
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"elp: error: {bad}"), done.stderr[-500:]


@pytest.mark.parametrize(
    ("program", "method", "task"),
    [
        ("script", "spawn", "sv_voxceleb1"),
        pytest.param("module", "spawn", "elp_ic", marks=pytest.mark.slow),
        pytest.param("module", "forkserver", "sv_voxceleb1", marks=pytest.mark.slow),
        pytest.param("script", "forkserver", "elp_ic", marks=pytest.mark.slow),
    ],
)
def test_workers_that_are_not_forked(program, method, task, tmp_path):
    (tmp_path / "elp").write_text(SCRIPT)
    start = "import multiprocessing, runpy, sys\npath = sys.argv.pop(1)\n"
    start += f"multiprocessing.set_start_method({method!r})\n{STARTED[program]}\n"
    (tmp_path / "start.py").write_text(f"if __name__ == '__main__':\n    exec({start!r})\n")
    steps = "config.runner.total_steps=1,,config.runner.save_step=1,,config.runner.eval_step=9"
    steps += ",,config.downstream_expert.datarc.num_workers=1"
    if task.startswith("elp_"):
        from tests import toy_corpora

        toy_corpora.fluent_speech_commands(tmp_path)
        words = f"-m train -u wavlm_local -d {task} --device cpu -k {tiny_backbone()} --data {tmp_path}".split()
        words += ["-p", str(tmp_path / "exp")]
    else:
        words = flags(tmp_path, task)
    done = call(
        [sys.executable, str(tmp_path / "start.py"), str(tmp_path / "elp"), *words, "-o", steps],
        ELP_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "exp" / "states-1.ckpt").is_file()


def test_the_users_own_clone(tmp_path):
    """A clone of S3PRL with our upstream and one of our tasks, as its owner would run them."""
    import s3prl

    from tests import toy_corpora

    toy_corpora.iemocap(tmp_path)
    clone = tmp_path / "clone" / "s3prl"
    clone.mkdir(parents=True)
    installed = Path(s3prl.__file__).parent
    for entry in installed.iterdir():
        if entry.name not in ("run_downstream.py", "__pycache__"):
            (clone / entry.name).symlink_to(entry)
    text = (installed / "run_downstream.py").read_text()
    (clone / "run_downstream.py").write_text(text.replace("[Runner] - Start a new", "[Clone] - Start a new"))
    (clone / "hub.py").unlink()
    (clone / "hub.py").write_text((installed / "hub.py").read_text())
    steps = "config.runner.total_steps=1,,config.runner.save_step=1,,config.downstream_expert.datarc.num_workers=0"
    words = f"-m train -u elp_local -g le -k {tiny_backbone()} -d elp_er --data {tmp_path} --device cpu -o {steps}"
    script = ["--script", str(clone / "run_downstream.py")]
    done = call([*RUN, *words.split(), "-p", str(tmp_path / "exp"), *script])
    assert done.returncode == 0, done.stderr
    assert f"from {clone}" in done.stderr
    assert "[Clone] - Start a new experiment" in done.stdout
    torch.serialization.add_safe_globals([argparse.Namespace])
    states = torch.load(tmp_path / "exp" / "states-1.ckpt")
    assert any(name.startswith("l_adapter.") for name in states["Upstream"])


# ends every rank's training with a hash of each trained tensor; `start` contains those before the first step
DIGESTS = """
import hashlib, json, os, pathlib, sys
import upstream_elp
from upstream_elp import run

def digests(runner):
    found = {}
    for entry in runner.all_entries:
        model = getattr(entry.model, "module", entry.model)
        for name, value in model.named_parameters():
            if value.requires_grad:
                found[f"{entry.name}.{name}"] = hashlib.sha256(value.detach().numpy().tobytes()).hexdigest()
    return found

if __name__ == "__main__":
    upstream_elp.register()
    from s3prl.downstream.runner import Runner
    stock = Runner.train

    def train(runner):
        start = digests(runner)
        stock(runner)
        reported = json.dumps({"start": start, "end": digests(runner)})
        pathlib.Path(__file__).with_name(f"rank-{os.environ['RANK']}.json").write_text(reported)

    Runner.train = train
    run.main()
"""


@pytest.mark.slow
def test_two_ranks_train_the_same_adapters(tmp_path):
    from tests import toy_corpora

    toy_corpora.fluent_speech_commands(tmp_path)
    (tmp_path / "start.py").write_text(DIGESTS)
    steps = "config.runner.total_steps=4,,config.runner.save_step=2,,config.runner.eval_step=4"
    words = f"-m train -u elp_local -k {tiny_backbone()} -d elp_ic -p {tmp_path}/exp --data {tmp_path} --device cpu"
    done = call([*TORCHRUN, str(tmp_path / "start.py"), *words.split(), "-o", steps])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("-f is on") == 1
    one, two = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert one["end"] == two["end"]
    adapters = {name for name in one["end"] if name.startswith("Upstream.")}
    assert adapters
    assert all(one["end"][name] != one["start"][name] for name in adapters)
    torch.serialization.add_safe_globals([argparse.Namespace])
    assert torch.load(tmp_path / "exp" / "states-4.ckpt")["Step"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "extra"), [("fluent_commands", []), ("asr", ["-f"]), ("sv_voxceleb1", ["-f"])], ids=["ic", "asr", "sv"]
)
def test_two_ranks_stop_together_and_resume(task, extra, tmp_path):
    cache = {"ELP_CACHE": str(tmp_path / "cache")}
    done = call([*TORCHRUN, "-m", "upstream_elp.run", *flags(tmp_path, task), *extra], **cache)
    assert done.returncode == 0, done.stderr[-3000:]
    torch.serialization.add_safe_globals([argparse.Namespace])
    states = torch.load(tmp_path / "exp" / "states-4.ckpt")
    assert (states["Step"], states["WorldSize"]) == (4, 2)
    more = ["-m", "train", "-e", str(tmp_path / "exp"), "--device", "cpu", "-o", "config.runner.total_steps=6"]
    done = call([*TORCHRUN, "-m", "upstream_elp.run", *more], **cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load(tmp_path / "exp" / "states-6.ckpt")["Step"] == 6
    split = "test-clean" if task == "asr" else "test"
    done = call([*RUN, "-m", "evaluate", "-t", split, "-e", str(tmp_path / "exp"), "--device", "cpu"], **cache)
    assert done.returncode == 0, done.stderr[-3000:]


LENGTHS = """
import sys, numpy, soundfile
from pathlib import Path

drawn = numpy.random.default_rng(int(sys.argv[2])) if sys.argv[2] != "equal" else None
for path in sorted(Path(sys.argv[1]).rglob("*.wav")):
    wave, rate = soundfile.read(path)
    soundfile.write(path, numpy.resize(wave, 8000 if drawn is None else drawn.integers(3000, 16000)), rate)
"""


def one_and_two_ranks(
    folder: Path, upstream: str, lengths: str, **runner: str
) -> list[tuple[list[dict], dict[str, torch.Tensor]]]:
    """Six steps without dropout in one process, and in two with half the batch: log lines and trained tensors."""
    from tests import toy_corpora
    from tests.training_tools import lines_of

    toy_corpora.fluent_speech_commands(folder)
    call([sys.executable, "-c", LENGTHS, str(folder), lengths])
    found = []
    for name, start, batch in (("one", RUN, 4), ("two", [*TORCHRUN, "-m", "upstream_elp.run"], 2)):
        values = {
            "runner.total_steps": 6,
            "runner.save_step": 6,
            "runner.eval_step": 3,
            "runner.log_step": 1,
            "runner.gradient_accumulate_steps": 1,
            "downstream_expert.datarc.num_workers": 0,
            "downstream_expert.datarc.train_batch_size": batch,
            **{f"runner.{key}": value for key, value in runner.items()},
        }
        steps = ",,".join(f"config.{key}={value}" for key, value in values.items())
        words = f"-m train {upstream} -d elp_ic --data {folder} --device cpu"
        done = call([*start, *words.split(), "-p", str(folder / name), "-o", steps], ELP_CACHE=str(folder / "cache"))
        assert done.returncode == 0, done.stderr[-3000:]
        torch.serialization.add_safe_globals([argparse.Namespace])
        states = torch.load(folder / name / "states-6.ckpt")
        assert len(states["Random"]) == states.get("WorldSize", 1)
        entries = [entry for entry in ("Upstream", "Featurizer", "Downstream") if entry in states]
        trained = {f"{entry}.{key}": value for entry in entries for key, value in states[entry].items()}
        floats = {key: value for key, value in trained.items() if value.is_floating_point() and "best_score" not in key}
        found.append((lines_of(folder / name / "train.jsonl"), floats))
    return found


def test_two_ranks_with_half_the_batch_are_one_with_the_whole(tmp_path):
    """Waves of one length and no dropout: gradients are averaged over trained tensors, and the order is shared out.

    A mean over 4 waves and a mean of two means over 2 differ in their rounding, which Adam's division by the gradient's
    own size carries on: 3e-7 was seen after 6 steps of 1e-4 each, 1e-6 is asked for.
    """
    upstream = f"-u elp_local -g le -k {tiny_backbone(dropout=0.0)}"
    (_, one), (_, two) = one_and_two_ranks(tmp_path, upstream, "equal")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().max() < 1e-6, name


@pytest.mark.parametrize("seed", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_the_same_with_lengths_that_differ(seed, tmp_path):
    """Of features that no padding changes: loss and gradient are equal to 1e-7 in each step, 1e-6 is asked for.

    Parameters are not: Adam makes a step of the learning rate out of a gradient that is nothing but rounding.
    """
    (one, _), (two, _) = one_and_two_ranks(tmp_path, "-u fbank", seed)
    for key in ("loss", "grad_norm"):
        assert [line[key] for line in one] == pytest.approx([line[key] for line in two], rel=1e-6), key


@pytest.mark.parametrize("seed", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_the_same_for_features_of_each_utterance_which_two_ranks_cache_together(seed, tmp_path):
    """Of a backbone whose features padding changes in a batch; the first steps are equal up to rounding."""
    upstream = f"-u elp_local -g le -k {tiny_backbone(dropout=0.0)}"
    cached = {"features_of": "utterance", "cache": "auto"}
    (one, _), (two, _) = one_and_two_ranks(tmp_path, upstream, seed, **cached)
    for key in ("loss", "grad_norm"):
        assert [line[key] for line in one] == pytest.approx([line[key] for line in two], rel=1e-4), key
    (features,) = (tmp_path / "cache" / "features").iterdir()
    assert list(features.glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
@pytest.mark.parametrize(("front", "bound"), [("layer norm", 0.01), ("group norm", 0.1)])
def test_the_same_with_a_backbone_that_feels_the_padding(front, bound, seed, tmp_path):
    """Another batch is another padding, and S3PRL's models give an utterance other features then.

    Largest difference of the loss in six steps: 0.4 % with layer norms in the front end, 3.5 % with a group norm.
    """
    backbone = tiny_backbone(dropout=0.0, layer_norm_front=front == "layer norm")
    (one, _), (two, _) = one_and_two_ranks(tmp_path, f"-u elp_local -g le -k {backbone}", seed)
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in two], rel=bound)


def _processes(folder: Path) -> list[int]:
    """Every process with a folder in its command line, and its children."""
    rows = subprocess.run(
        ["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [int(row.split()[0]) for row in rows if "upstream_elp.run" in row and str(folder) in row]


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_job_saves_once(tmp_path):
    """As SLURM sends it: to torchrun, the ranks and their workers; torchrun then passes its own copy on."""
    from tests import toy_corpora

    toy_corpora.fluent_speech_commands(tmp_path)
    values = {"total_steps": 10**6, "eval_step": 10**6, "save_step": 10**6, "log_step": 2}
    steps = ",,".join(f"config.runner.{key}={value}" for key, value in values.items())
    steps += ",,config.downstream_expert.datarc.num_workers=1,,config.downstream_expert.datarc.train_batch_size=2"
    words = f"-m train -u elp_local -g le -k {tiny_backbone()} -d elp_ic -p {tmp_path}/exp --data {tmp_path}"
    command = [*TORCHRUN, "-m", "upstream_elp.run", *words.split(), "--device", "cpu", "-o", steps]
    job = launch(command)
    end = time.monotonic() + 120
    while not (tmp_path / "exp" / "train.jsonl").exists():
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    for number in _processes(tmp_path):
        os.kill(number, signal.SIGTERM)
    reported = ended(job, 60).stderr
    assert reported.count("stopped by SIGTERM after step") == 1, reported[-3000:]
    assert f"`torchrun --nproc_per_node 2 -m upstream_elp.run -m train -a -p {tmp_path}/exp`" in reported
    assert len(list((tmp_path / "exp").glob("states-*.ckpt"))) == 1
    assert _processes(tmp_path) == []


# starts a run whose second rank meets a fault that the first does not know about
FAULTY = """
import os
import torch
import upstream_elp
from upstream_elp import run

def faulty(forward, number=[0]):
    def changed(self, split, features, *others, **kwargs):
        loss = forward(self, split, features, *others, **kwargs)
        number[0] += split == "train"
        if os.environ["RANK"] == "0" or number[0] < 3:
            return loss
        if os.environ["FAULT"] == "error":
            raise upstream_elp.base.errors.ElpError("the second rank has met a bad file")
        if os.environ["FAULT"] == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss * float("nan")
    return changed

if __name__ == "__main__":
    upstream_elp.register()
    from downstream_heads.elp_ic.task import DownstreamExpert
    DownstreamExpert.forward = faulty(DownstreamExpert.forward)
    run.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("nan", "2 steps in a row were skipped, the last one because the loss is not finite"),
        ("error", "the second rank has met a bad file"),
        ("memory", "rank 1 is out of memory at step 3 with waves of"),
    ],
)
def test_a_fault_of_one_rank_ends_all_of_them(fault, reported, tmp_path):
    """At once, not after the hours that an evaluation may take; fp16 has two ways to skip a step."""
    from tests import toy_corpora

    toy_corpora.fluent_speech_commands(tmp_path)
    (tmp_path / "start.py").write_text(FAULTY)
    steps = "config.runner.total_steps=50,,config.runner.eval_step=90,,config.runner.max_failed_steps=2"
    steps += ",,config.runner.precision=fp16,,config.runner.gradient_accumulate_steps=1"
    steps += ",,config.downstream_expert.datarc.num_workers=0,,config.downstream_expert.datarc.train_batch_size=2"
    words = f"-m train -u elp_local -g le -k {tiny_backbone()} -d elp_ic -p {tmp_path}/exp --data {tmp_path}"
    done = call([*TORCHRUN, str(tmp_path / "start.py"), *words.split(), "--device", "cpu", "-o", steps], FAULT=fault)
    assert done.returncode == 1 and f"elp: error: {reported}" in done.stderr, done.stderr[-3000:]
    assert "Connection closed by peer" not in done.stderr
    assert (tmp_path / "exp" / "states-4.ckpt").is_file() == (fault == "nan")


@pytest.mark.slow
def test_a_bad_file_that_one_rank_reads_ends_all_of_them_after_their_steps_are_saved(tmp_path):
    """Whichever rank it is, the resumed run equals one that had the good file from the start."""
    from tests import toy_corpora
    from tests.audio_files import break_late
    from tests.training_tools import assert_same

    root = toy_corpora.fluent_speech_commands(tmp_path / "data")
    steps = "config.runner.total_steps=6,,config.runner.save_step=50,,config.runner.eval_step=50"
    steps += ",,config.runner.gradient_accumulate_steps=1,,config.downstream_expert.datarc.num_workers=0"
    steps += ",,config.downstream_expert.datarc.train_batch_size=1"
    words = f"-m train -u elp_local -g le -k {tiny_backbone()} -d elp_ic --device cpu".split()
    start = [*TORCHRUN, "-m", "upstream_elp.run", *words, "--data", str(tmp_path / "data"), "-a", "-o", steps]
    straight = call([*start, "-p", str(tmp_path / "straight")])
    assert straight.returncode == 0, straight.stderr[-3000:]
    torch.serialization.add_safe_globals([argparse.Namespace])
    expected = torch.load(tmp_path / "straight" / "states-6.ckpt")
    for number in (0, 5):
        bad, exp = sorted(root.rglob("train-*.wav"))[number], tmp_path / f"exp{number}"
        good = bad.read_bytes()
        break_late(bad)
        done = call([*start, "-p", str(exp)], seconds=120)
        assert done.returncode == 1 and "Connection closed by peer" not in done.stderr, done.stderr[-3000:]
        (saved,) = exp.glob("states-*.ckpt")
        again = f"`torchrun --nproc_per_node 2 -m upstream_elp.run -m train -a -p {exp}`"
        reported = f"elp: error: {bad} .*; {saved.name} is saved; resume with {again}"
        assert re.search(reported, done.stderr), done.stderr[-3000:]
        bad.write_bytes(good)
        done = call([*start, "-p", str(exp)])
        assert done.returncode == 0, done.stderr[-3000:]
        found = torch.load(exp / "states-6.ckpt")
        for key in ("Upstream", "Featurizer", "Downstream", "Optimizer", "Random"):
            assert_same(expected[key], found[key], key)


@pytest.mark.slow
@pytest.mark.parametrize("batches", ["train_batch_size=3", "train_batch_seconds=1.2"])
def test_two_ranks_resumed_equal_two_ranks_never_stopped(batches, tmp_path):
    """With dropout, uneven batches and accumulation: each rank's random states are kept."""
    from tests import toy_corpora
    from tests.training_tools import assert_same_run, lines_of

    toy_corpora.write_all(tmp_path / "data")
    values = {
        "runner.total_steps": 8,
        "runner.save_step": 2,
        "runner.max_keep": 10,
        "runner.log_step": 3,
        "runner.eval_step": 4,
        "runner.gradient_accumulate_steps": 2,
        "downstream_expert.datarc.num_workers": 1,
    }
    steps = ",,".join(f"config.{key}={value}" for key, value in values.items())
    steps += f",,config.downstream_expert.datarc.{batches}"
    base = ["--data", str(tmp_path / "data"), "--device", "cpu", "-p", str(tmp_path / "exp")]
    words = ["-m", "train", "-u", "elp_local", "-g", "elp", "-k", str(tiny_backbone()), "-d", "elp_ic", "-o", steps]
    done = call([*TORCHRUN, "-m", "upstream_elp.run", *words, *base])
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(tmp_path / "exp", tmp_path / "straight")
    for step in (4, 6, 8):
        (tmp_path / "exp" / f"states-{step}.ckpt").unlink()
    done = call([*TORCHRUN, "-m", "upstream_elp.run", "-m", "train", "-a", *base])
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_run(tmp_path / "straight", tmp_path / "exp")
    best = ["-m", "evaluate", "-e", str(tmp_path / "exp" / "dev-best.ckpt"), *base[:4]]
    done = call([*TORCHRUN, "-m", "upstream_elp.run", *best])
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "exp" / "metrics.jsonl").read_text().count('"dev-best.ckpt"') == 1, "one rank writes"
    assert lines_of(tmp_path / "exp" / "metrics.jsonl")[-1]["checkpoint_step"] in (4, 8)
    wav = next((tmp_path / "data").rglob("*.wav"))
    done = call([*TORCHRUN, "-m", "upstream_elp.run", "-m", "inference", *best[2:], "-t", str(wav)])
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_nodes(tmp_path):
    """Two launchers that meet at an address, as on a cluster, where each has a rank that is the first on its node."""
    from tests import toy_corpora

    toy_corpora.fluent_speech_commands(tmp_path)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    node = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "1"]
    steps = "config.runner.total_steps=4,,config.runner.save_step=2,,config.runner.eval_step=4"
    words = f"-m train -u elp_local -k {tiny_backbone()} -d elp_ic -p {tmp_path}/exp --data {tmp_path} --device cpu"
    command = [*TORCHRUN[:3], *node, "--rdzv_endpoint", address, "-m", "upstream_elp.run", *words.split(), "-o", steps]
    nodes = [ended(process) for process in [launch(command), launch(command)]]
    reported = [node.stderr for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], reported
    assert "".join(reported).count("-f is on") == 1
    torch.serialization.add_safe_globals([argparse.Namespace])
    states = torch.load(tmp_path / "exp" / "states-4.ckpt")
    assert (states["Step"], states["WorldSize"], len(states["Random"])) == (4, 2, 2)
