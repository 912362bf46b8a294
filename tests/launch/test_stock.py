"""S3PRL's own tasks with current packages: train, evaluate, resume."""

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.host_toys import stock_config, stock_words
from tests.programs import RUN, call
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.launch import arguments
from upstream_elp.run import run
from upstream_elp.upstream.state_dict import META

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


class Watch:
    """Catch S3PRL's runner, and hash every tensor of its upstream before and after training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import upstream_elp

        upstream_elp.register()
        from s3prl.downstream.runner import Runner

        stock = Runner.train

        def train(runner: Runner) -> None:
            self.upstream = runner.upstream.model
            self.before = digests(self.upstream)
            stock(runner)
            self.after = digests(self.upstream)

        monkeypatch.setattr("s3prl.run_downstream.Runner.train", train)

    @property
    def changed(self) -> set[str]:
        assert self.before.keys() == self.after.keys()
        return {name for name in self.after if self.after[name] != self.before[name]}

    @property
    def declared(self) -> set[str]:
        """The names of the tensors that may change, according to the upstream itself."""
        return {item.path for item in self.upstream.injection.declared.values()}


def digests(module: torch.nn.Module) -> dict[str, str]:
    """A hash of every parameter and buffer, including those outside ``state_dict``."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: hashlib.sha256(value.detach().numpy().tobytes()).hexdigest() for name, value in named}


def test_another_stock_task(tmp_path, monkeypatch):
    watch = Watch(monkeypatch)
    run(stock_words("speech_commands", tmp_path))
    assert (tmp_path / "exp" / "test_predict.txt").read_text().count("\n") == 10
    assert watch.changed == watch.declared


@pytest.mark.parametrize(
    ("task", "module", "best"),
    [("voxceleb1", "librosa", "dev-best.ckpt"), ("diarization", "h5py", "best-states-dev.ckpt")],
)
def test_speaker_identification_and_diarization(task, module, best, tmp_path, monkeypatch):
    """Two more of SUPERB's tasks train our adapters and evaluate them."""
    pytest.importorskip(module)
    watch = Watch(monkeypatch)
    run(stock_words(task, tmp_path, "-g", "elp"))
    assert watch.changed == watch.declared
    exp = tmp_path / "exp"
    assert state(exp / "states-4.ckpt")["Upstream"].keys() - {META} == watch.upstream.injection.declared.keys()
    found = exp / best if (exp / best).is_file() else exp / "states-4.ckpt"  # the toys may get no answer right
    run(["-m", "evaluate", "-t", "test", "-e", str(found), "--device", "cpu"])
    written = {"voxceleb1": "test_predict.txt", "diarization": "scoring/predictions/mix0.h5"}
    assert (exp / written[task]).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.skipif("S3PRL_CLONE" not in os.environ, reason="needs S3PRL_CLONE, a clone of S3PRL's repository")
@pytest.mark.parametrize("task", ["pr", "sf"])
def test_phonemes_and_slots_with_a_clone(task, tmp_path):
    """Their data sets are missing in the s3prl package, so they need --script."""
    config, exp = stock_config(task, tmp_path), tmp_path / "exp"
    script = Path(os.environ["S3PRL_CLONE"]) / "s3prl" / "run_downstream.py"
    clone = ["--script", str(script), "--device", "cpu"]
    flags = ["-m", "train", "-d", "ctc", "-u", "elp_local", "-k", str(tiny_backbone()), "-g", "elp", "-c", str(config)]
    done = call([*RUN, *flags, "-p", str(exp), *clone])
    assert done.returncode == 0, done.stderr[-3000:]
    done = call([*RUN, "-m", "evaluate", "-t", "test", "-e", str(exp / "states-4.ckpt"), *clone])
    assert done.returncode == 0, done.stderr[-3000:]
    assert (exp / "test-hyp.ark").read_text().count("\n") == 3


def test_query_by_example_compares_features_without_training(tmp_path):
    """QUESST 2014 has nothing to train, so it is evaluated without a checkpoint, here with our upstream."""
    pytest.importorskip("dtw")
    pytest.importorskip("lxml")
    config, exp = stock_config("quesst14_dtw", tmp_path), tmp_path / "exp"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({"runner": {}, "downstream_expert": content["downstream_expert"]}))  # as S3PRL's
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone()), "-g", "weighted_sum", "-l", "1"]
    flags = ["-m", "evaluate", "-t", "dev", "-d", "quesst14_dtw", "-c", str(config), "-p", str(exp), "--device", "cpu"]
    run([*flags, *upstream])
    found = (exp / "benchmark.stdlist.xml").read_text()
    assert found.count("<term ") == 2 * 4 and 'termid="query0"' in found


def test_sid_lists_are_kept_per_corpus_and_outside_the_package(tmp_path):
    import s3prl

    folder = Path(s3prl.__file__).parent / "downstream" / "voxceleb1" / ".cache"
    before = folder.exists()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(stock_words("voxceleb1", tmp_path / name, total_steps=1, eval_step=9, save_step=9))
    assert len(list((tmp_path / "cache" / "sid_lists").glob("*.pkl"))) == 6
    assert folder.exists() == before


def test_what_stock_tasks_lack_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ElpError, match=r"-d ctc needs s3prl/downstream/ctc/corpus, which the s3prl package lacks; cl"):
        arguments.stock_task("ctc")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ElpError, match=r"-d diarization needs the package h5py, .* pip install h5py"):
        arguments.stock_task("diarization")
    with pytest.raises(ElpError, match=r"-d quesst14_dtw needs the package dtw-python, .* pip install dtw-python"):
        arguments.stock_task("quesst14_dtw")
    arguments.stock_task("asr")


@pytest.mark.parametrize("preset", ["elp", "le", "conventional", "lora_qv8", "full_finetune"])
def test_stock_task_with_our_upstream_trains_the_adapters_only(preset, tmp_path, capsys, monkeypatch):
    watch = Watch(monkeypatch)
    run(stock_words("fluent_commands", tmp_path, "-g", preset, total_steps=4))
    assert "-f is on" in capsys.readouterr().err
    assert watch.declared
    assert watch.changed == watch.declared
    saved = state(tmp_path / "exp" / "states-4.ckpt")["Upstream"]
    assert saved.keys() - {META} == watch.upstream.injection.declared.keys()


def test_a_checkpoint_holds_what_is_trained_and_little_else(tmp_path, monkeypatch):
    watch = Watch(monkeypatch)
    backbone = tiny_backbone(layers=4, dim=256)
    run(stock_words("fluent_commands", tmp_path, "-g", "le", backbone=backbone, total_steps=2))
    path = tmp_path / "exp" / "states-2.ckpt"
    saved = state(path)
    weights = [value for name in ("Upstream", "Featurizer", "Downstream") for value in saved[name].values()]
    trainable = sum(value.numel() for value in weights if value.is_floating_point())
    assert trainable < sum(value.numel() for value in watch.upstream.parameters())
    assert path.stat().st_size <= 1.05 * 12 * trainable  # weight and Adam's two moments, 4 bytes each


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
    import joblib

    from upstream_elp.host import mend

    monkeypatch.setattr(mend, "FEW_FILES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    processes, start = [], joblib.Parallel.__init__

    def noted(self, n_jobs=None, **options):
        processes.append(n_jobs)
        start(self, n_jobs=n_jobs, **options)

    monkeypatch.setattr(joblib.Parallel, "__init__", noted)
    config = stock_config("sv_voxceleb1", tmp_path, total_steps=1, eval_step=9, save_step=1)
    flags = [*["-m", "train", "-d", "sv_voxceleb1", "-u", "wavlm_local", "--device", "cpu"], "-k", str(tiny_backbone())]
    run([*flags, "-c", str(config), "-p", str(tmp_path / "exp")])
    assert set(processes) == {2}
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
