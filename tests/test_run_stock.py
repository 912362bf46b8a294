"""S3PRL's own tasks on today's stack: train, evaluate, resume."""

from pathlib import Path

import pytest
import torch

from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from upstream_elp.run import run

TASKS = {"asr": "test-clean", "sv_voxceleb1": "test", "emotion": "test", "fluent_commands": "test"}


@pytest.fixture(autouse=True)
def _one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "finetuned"])
@pytest.mark.parametrize("task", TASKS)
def test_trains_evaluates_and_resumes(task, trainable, tmp_path, capsys):
    config, exp = stock_config(task, tmp_path), tmp_path / "exp"
    flags = ["-u", "wavlm_local", "-k", str(tiny_backbone()), "-d", task, "-c", str(config), "-p", str(exp)]
    run(["-m", "train", *flags, "--device", "cpu", *(["-f"] if trainable else [])])
    first, last = state(exp / "states-2.ckpt"), state(exp / "states-4.ckpt")
    assert last["Step"] == 4
    assert ("Upstream" in last) == trainable
    head = [key for key in last["Downstream"] if "best_score" not in key]
    assert any(not torch.equal(first["Downstream"][key], last["Downstream"][key]) for key in head)

    capsys.readouterr()
    run(["-m", "evaluate", "-t", TASKS[task], "-e", str(exp / "states-4.ckpt"), "--device", "cpu"])
    assert "Loading Downstream weights" in capsys.readouterr().out

    run(["-m", "train", "-e", str(exp), "--device", "cpu", "-o", "config.runner.total_steps=6"])
    assert state(exp / "states-6.ckpt")["Step"] == 6


def test_another_stock_task(tmp_path):
    config, exp = stock_config("speech_commands", tmp_path), tmp_path / "exp"
    run(
        [
            *["-m", "train", "-d", "speech_commands", "-u", "wavlm_local", "--device", "cpu"],
            "-k",
            str(tiny_backbone()),
            "-c",
            str(config),
            "-p",
            str(exp),
        ]
    )
    assert (exp / "test_predict.txt").read_text().count("\n") == 10


def test_stock_task_with_our_upstream_trains_the_adapters_only(tmp_path, capsys):
    config, exp = stock_config("fluent_commands", tmp_path), tmp_path / "exp"
    run(
        [
            *["-m", "train", "-d", "fluent_commands", "-u", "elp_local"],
            "-k",
            str(tiny_backbone()),
            "-c",
            str(config),
            "-p",
            str(exp),
        ]
    )
    assert "-f is on" in capsys.readouterr().err
    first, last = state(exp / "states-2.ckpt")["Upstream"], state(exp / "states-4.ckpt")["Upstream"]
    assert all(not torch.equal(first[key], last[key]) for key in last if first[key].is_floating_point())


def test_sv_lengths_are_kept_per_corpus_and_outside_the_package(tmp_path):
    import s3prl

    folder = Path(s3prl.__file__).parent / "downstream" / "sv_voxceleb1" / ".wav_lengths"
    before = folder.exists()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        config = stock_config("sv_voxceleb1", tmp_path / name, total_steps=1, eval_step=9, save_step=9)
        run(
            [
                *["-m", "train", "-d", "sv_voxceleb1", "-u", "wavlm_local", "--device", "cpu"],
                "-k",
                str(tiny_backbone()),
                "-c",
                str(config),
                "-p",
                str(tmp_path / name / "exp"),
            ]
        )
    assert len(list((tmp_path / "cache" / "sv_lengths").glob("*.pt"))) == 2
    assert folder.exists() == before


@pytest.mark.slow
def test_sv_lengths_are_measured_by_processes_for_a_large_corpus(tmp_path, monkeypatch):
    from upstream_elp.host import mend

    monkeypatch.setattr(mend, "FEW_FILES", 0)
    config = stock_config("sv_voxceleb1", tmp_path, total_steps=1, eval_step=9, save_step=1)
    flags = [*["-m", "train", "-d", "sv_voxceleb1", "-u", "wavlm_local", "--device", "cpu"], "-k", str(tiny_backbone())]
    run([*flags, "-c", str(config), "-p", str(tmp_path / "exp")])
    assert (tmp_path / "exp" / "states-1.ckpt").is_file()


def test_resume_with_auto_resume_goes_on(tmp_path):
    config, exp = stock_config("fluent_commands", tmp_path, total_steps=2), tmp_path / "exp"
    flags = [
        "-u",
        "wavlm_local",
        "-k",
        str(tiny_backbone()),
        "-d",
        "fluent_commands",
        "-c",
        str(config),
        "-p",
        str(exp),
    ]
    run(["-m", "train", *flags])
    run(["-m", "train", "-a", *flags, "-o", "config.runner.total_steps=4"])
    assert state(exp / "states-4.ckpt")["Step"] == 4
