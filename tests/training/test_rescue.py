"""An error in the middle of a training loses no steps: they are saved, and -a resumes as if nothing had happened."""

import errno
import os
import re
import shutil

import pytest
import torch

from downstream_heads import registry
from tests.audio_files import break_late
from tests.checkpoints import load_states
from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from tests.training_tools import STEPS, assert_same, assert_same_run, flags_of, resuming
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.host import checkpoints
from upstream_elp.run import run
from upstream_elp.training import record
from upstream_elp.training.batches import Epoch
from upstream_elp.training.position import Position
from upstream_elp.training.precision import Precision
from upstream_elp.training.steps import Steps

pytestmark = pytest.mark.usefixtures("cache")
RARELY = {"save_step": 50, "eval_step": 4}
"""So that only the checkpoint written for the error keeps the steps before it."""
AUDIO = {
    "elp_asr": "LibriSpeech/train-clean-100/**/*.flac",
    "elp_sv": "VoxCeleb1/dev/**/*.wav",
    "elp_er": "IEMOCAP/**/sentences/**/*.wav",
    "elp_ic": "fluent_speech_commands_dataset/**/train-*.wav",
}


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """An uninterrupted run of elp_ic."""
    folder = tmp_path_factory.mktemp("straight") / "exp"
    run(flags_of("elp_ic", data, folder, **RARELY))
    return folder


def _steps(folder):
    return [int(path.stem.split("-")[-1]) for path in checkpoints.states(folder)]


def _ended_by(error, flags, folder, match):
    """Run until the error ends it; return the step that the sentence reports as saved, or None."""
    with pytest.raises(error, match=match) as caught:
        run(flags)
    steps = _steps(folder)
    if not steps:
        return None
    if error is ElpError:
        said = f"; states-{steps[-1]}.ckpt is saved; resume with `elp run -m train -a -p {folder}`"
        assert str(caught.value).endswith(said) and "\n" not in str(caught.value)
    return steps[-1]


@pytest.mark.parametrize(("number", "accumulate", "workers", "saved"), [(2, 2, 0, 1), (5, 2, 2, 1), (5, 1, 0, 2)])
def test_a_bad_file_ends_a_run_after_its_steps_are_saved(number, accumulate, workers, saved, data, straight, tmp_path):
    """Of the eight files, number 2 and 5 are in the last batch of the first epoch."""
    root, folder = tmp_path / "data", tmp_path / "exp"
    shutil.copytree(data, root)
    bad = sorted(root.glob(AUDIO["elp_ic"]))[number]
    good = bad.read_bytes()
    break_late(bad)
    flags = flags_of("elp_ic", root, folder, workers=workers, **RARELY, gradient_accumulate_steps=accumulate)
    assert _ended_by(ElpError, flags, folder, re.escape(str(bad))) == saved
    bad.write_bytes(good)
    run([*flags, "-a"])
    if accumulate == 1:
        straight = tmp_path / "straight"
        run(flags_of("elp_ic", data, straight, **RARELY, gradient_accumulate_steps=1))
    _same_but_for_places(straight, folder)


def _same_but_for_places(expected, found):
    """Equal runs with corpora in different folders, or with and without workers."""
    one, other = (load_states(path / f"states-{STEPS}.ckpt") for path in (expected, found))
    for key in ("Upstream", "Featurizer", "Downstream", "Optimizer", "Random", "Records", "Step", "Epoch"):
        assert_same(one[key], other[key], key)


@pytest.mark.parametrize("task", [task for task in registry.names() if task != "elp_ic"])
def test_every_task_goes_on_exactly_after_a_bad_file(task, data, tmp_path, monkeypatch):
    """The file goes bad when the third step is read."""
    straight, folder = tmp_path / "straight", tmp_path / "exp"
    run(flags_of(task, data, tmp_path / "first", total_steps=1))  # joblib draws a random number for the lengths of sv
    run(flags_of(task, data, straight, **RARELY))
    flags = flags_of(task, data, folder, **RARELY)
    with monkeypatch.context() as patch:
        _fail_at(patch, Epoch, "__iter__", ElpError("a.wav is cut off; replace the file"), batch=5)
        assert _ended_by(ElpError, flags, folder, r"^a\.wav is cut off; replace the file; states-2\.ckpt") == 2
    run(resuming(folder, data))
    assert_same_run(straight, folder)


def _fail_at(patch, cls, name, error, *, batch):
    """Let the batches of a training end with an error after a number of them."""
    read, original = [0], getattr(cls, name)

    def batches(self):
        for item in original(self):
            read[0] += 1
            if read[0] == batch + 1:
                raise error
            yield item

    patch.setattr(cls, name, batches)


ERRORS = {
    3: RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
    5: MemoryError(),
    7: KeyError("label"),
    9: OSError(errno.EIO, "Input/output error"),
}
"""By the number of batches before it: a step takes two, an epoch has three, so that the fifth step spans two epochs."""


@pytest.mark.parametrize(("where", "batches"), [*(("reading", number) for number in ERRORS), ("forward", 7)])
def test_any_error_before_the_update_loses_no_step(where, batches, data, straight, tmp_path, monkeypatch, capfd):
    """While batches are read, or in the forward pass after it has drawn random numbers and changed the records."""
    folder, error, saved = tmp_path / "exp", ERRORS[batches], batches // 2
    with monkeypatch.context() as patch:
        if where == "reading":
            _fail_at(patch, Epoch, "__iter__", error, batch=batches)
        else:
            patch.setattr(Steps, "backward", _fails_after(Steps.backward, error, calls=batches + 1))
        assert _ended_by(type(error), flags_of("elp_ic", data, folder, **RARELY), folder, "") == saved
    reported = capfd.readouterr().err
    assert f"elp: states-{saved}.ckpt is saved; resume with `elp run -m train -a -p {folder}`" in reported
    run(resuming(folder, data))
    assert_same_run(straight, folder)


def _fails_after(function, error, *, calls):
    """The function, with an error at the end of one of its calls."""
    made = [0]

    def call(*args, **kwargs):
        made[0] += 1
        value = function(*args, **kwargs)
        if made[0] == calls:
            raise error
        return value

    return call


def test_an_error_in_the_middle_of_an_update_saves_nothing(data, tmp_path, monkeypatch):
    """The trained tensors may have been partly changed."""
    monkeypatch.setattr(Precision, "step", _fails_after(Precision.step, RuntimeError("in the middle"), calls=3))
    with pytest.raises(RuntimeError, match="in the middle"):
        run(flags_of("elp_ic", data, tmp_path, **RARELY))
    assert not _steps(tmp_path)


def test_a_log_that_cannot_be_written_loses_no_step_and_no_evaluation(data, straight, tmp_path, monkeypatch):
    """The disk with the logs may be full while checkpoints still fit; only one line is missing."""

    def full(*args, **kwargs):
        raise ElpError("cannot write train.jsonl: No space left on device")

    for log_step in (3, 4):
        folder = tmp_path / str(log_step)
        with monkeypatch.context() as patch:
            patch.setattr(record, "append_line", full)
            flags = flags_of("elp_ic", data, folder, **{**RARELY, "log_step": log_step})
            assert _ended_by(ElpError, flags, folder, "No space left") == log_step
        pending = load_states(folder / f"states-{log_step}.ckpt")["Position"]["pending"]
        assert pending == (["dev"] if log_step == 4 else [])
        run(resuming(folder, data))
        one, other = (load_states(path / f"states-{STEPS}.ckpt") for path in (straight, folder))
        for key in ("Upstream", "Featurizer", "Downstream", "Optimizer", "Random"):
            assert_same(one[key], other[key], key)


def test_what_cannot_be_saved_is_reported_with_what_ended_the_run(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _fail_at(patch, Epoch, "__iter__", ElpError("a.wav is cut off; replace the file"), batch=6)
        save = torch.save

        def full(states, file, *args, **kwargs):
            if states.get("Step"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save(states, file, *args, **kwargs)

        patch.setattr(torch, "save", full)
        said = r"^a\.wav is cut off; replace the file; the steps since .* not saved: .*states-3\.ckpt cannot be written"
        with pytest.raises(ElpError, match=said):
            run(flags_of("elp_ic", data, tmp_path, **RARELY))
    assert not list(tmp_path.glob("*.ckpt")) and not list(tmp_path.glob(".*"))


def test_an_error_before_the_first_new_step_writes_nothing(data, straight, tmp_path, monkeypatch):
    folder = tmp_path / "exp"
    for flags in (flags_of("elp_ic", data, folder, **RARELY), resuming(folder, data, "runner.total_steps=10")):
        if flags[1:3] == ["train", "-a"]:
            shutil.copytree(straight, folder, dirs_exist_ok=True)
        before = {path: path.stat().st_mtime_ns for path in checkpoints.states(folder)}
        with monkeypatch.context() as patch:
            _fail_at(patch, Epoch, "__iter__", ElpError("a.wav is cut off; replace the file"), batch=1)
            with pytest.raises(ElpError, match=r"replace the file$"):
                run(flags)
        assert {path: path.stat().st_mtime_ns for path in checkpoints.states(folder)} == before


def test_s3prls_own_task_that_meets_a_bad_file_goes_on(tmp_path):
    config, folder = (
        stock_config("fluent_commands", tmp_path, total_steps=4, save_step=9, eval_step=9),
        tmp_path / "exp",
    )
    words = ["-m", "train", "-u", "wavlm_local", "-d", "fluent_commands", "--device", "cpu", "-k", str(tiny_backbone())]
    words += ["-c", str(config), "-p", str(folder), "-o", "config.downstream_expert.datarc.num_workers=1"]
    wavs = sorted(tmp_path.rglob("train-*.wav"))
    for bad in wavs:
        good = bad.read_bytes()
        bad.write_bytes(b"no audio")
        with pytest.raises(ElpError, match=r"^cannot read audio file"):
            run(words)
        bad.write_bytes(good)
        if steps := _steps(folder):
            break
        shutil.rmtree(folder)
    assert 1 <= steps[-1] < 4
    run(["-m", "train", "-a", "-p", str(folder), "--device", "cpu"])
    assert _steps(folder)[-1] == 4


def test_a_position_comes_back_to_its_mark():
    position = Position(step=3, epoch=1, batch=2, batch_ids=[1], utterances=4)
    position.records["acc"] += [1.0]
    mark, before = (
        position.mark(),
        Position.of(Checkpoint(step=3, epoch=1, position=position.entry(), records={"acc": [1.0]})),
    )
    position.step, position.epoch, position.batch, position.utterances = 4, 2, 0, 9
    position.batch_ids.append(7)
    position.records["acc"] += [0.0]
    position.records["loss"] += [2.0]
    position.back(mark)
    assert position == before and position.records["new"] == []
