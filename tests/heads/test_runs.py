"""The tasks in S3PRL's own loop: train, evaluate, resume and infer, with real files and a real, tiny backbone."""

import json
from pathlib import Path

import pytest
import torch

from tests import toy_corpora
from tests.task_runs import DEV, flags, options
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run

FILES = {
    "elp_asr": {"test-clean-noLM-hyp.ark", "test-clean-noLM-ref.ark"},
    "elp_er": {"test_fold2_predict.txt", "test_fold2_truth.txt"},
    "elp_ic": {"test_predict.csv", "test_truth.csv"},
    "elp_sv": {"test_predict.txt", "test_truth.txt", "dev_trials.txt"},
}
USUAL_FILES = {"test_predict.txt", "test_truth.txt"}
ITEMS = {"elp_asr": 3, "elp_er": 6, "elp_ic": 4, "elp_ks": 12, "elp_sv": 28}  # SV counts trials


@pytest.fixture(autouse=True)
def data(own_data):
    return own_data


def lines(expdir: Path) -> list[dict]:
    return [json.loads(line) for line in (expdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("head", ["superb", "linear"])
@pytest.mark.parametrize("task", DEV)
def test_train_evaluate_infer(task, head, data, tmp_path):
    exp = tmp_path / "exp"
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    run(["-m", "train", *upstream, *flags(task, data, exp), *options(task, head)])
    assert {(line["split"], line["step"]) for line in lines(exp)} == {
        (split, step) for split in ("train", DEV[task]) for step in (2, 4)
    }
    first, last = (torch.load(exp / f"{name}.ckpt", weights_only=True) for name in (f"{DEV[task]}-best", "states-4"))
    assert first["Downstream"].keys() == last["Downstream"].keys()
    assert torch.isfinite(first["Downstream"]["best_score"]).all()

    best = str(exp / f"{DEV[task]}-best.ckpt")
    run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(data), "--device", "cpu"])
    files = FILES.get(task, USUAL_FILES)
    assert files <= {path.name for path in exp.iterdir()}
    evaluated = lines(exp)[-1]
    assert evaluated["split"].startswith("test") and evaluated["items"] == ITEMS.get(task, evaluated["items"])
    answered = [len((exp / name).read_text().splitlines()) for name in files if name.startswith("test")]
    assert set(answered) == {evaluated["items"]}
    assert evaluated["checkpoint"] == f"{DEV[task]}-best.ckpt"
    assert not any("checkpoint" in line for line in lines(exp)[:-1])

    wav = toy_corpora.write_wav(tmp_path / "some.wav", toy_corpora.tone())
    run(["-m", "inference", "-t", str(wav), "-e", best, "--data", str(data), "--device", "cpu"])
    assert next(exp.glob("inference.*")).read_text().startswith("some")


@pytest.mark.parametrize("task", ["elp_asr", "elp_sv"])
def test_a_stock_upstream(task, data, tmp_path):
    """The tasks accept any upstream of S3PRL; filter banks have 10 ms frames and need no download."""
    exp = tmp_path / "exp"
    run(["-m", "train", "-u", "fbank", *flags(task, data, exp), *options(task, "superb", total_steps=2)])
    best = str(exp / f"{DEV[task]}-best.ckpt")
    run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(data), "--device", "cpu"])
    assert [line["items"] for line in lines(exp) if line["split"].startswith("test")] == [ITEMS[task]]


def test_sv_with_superb_s_protocol(data, tmp_path):
    """Setting only ``protocol: superb`` is enough: S3PRL's loop then evaluates test and keeps its best checkpoint."""
    exp = tmp_path / "exp"
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    flag, values = options("elp_sv", "linear", total_steps=2)
    protocol = "config.downstream_expert.datarc.protocol=superb"
    run(["-m", "train", *upstream, *flags("elp_sv", data, exp), flag, f"{values},,{protocol}"])
    assert {line["split"] for line in lines(exp)} == {"train", "test"}
    assert (exp / "test-best.ckpt").is_file() and not (exp / "dev-best.ckpt").exists()


def test_best_score_survives_resuming(data, tmp_path):
    exp = tmp_path / "exp"
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    run(["-m", "train", *upstream, *flags("elp_ic", data, exp), *options("elp_ic", "linear")])
    before = torch.load(exp / "states-4.ckpt", weights_only=True)["Downstream"]["best_score"].item()
    more = ["-o", "config.runner.total_steps=6"]
    run(["-m", "train", "-e", str(exp), "--data", str(data), "--device", "cpu", *more])
    values = [line["metrics"]["acc"] for line in lines(exp) if line["split"] == "dev"]
    after = torch.load(exp / "states-6.ckpt", weights_only=True)["Downstream"]["best_score"].item()
    assert len(values) == 3 and before == max(values[:2]) and after == max(values)


def test_with_our_upstream_and_seeds(data, tmp_path):
    """ER obeys ``--seed``, which S3PRL's own task does not."""
    heads = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        exp = tmp_path / name
        upstream = ["-u", "elp_local", "-k", str(tiny_backbone()), "--seed", str(seed)]
        run(["-m", "train", *upstream, *flags("elp_er", data, exp), *options("elp_er", "linear", total_steps=2)])
        heads[name] = torch.load(exp / "states-2.ckpt", weights_only=True)["Downstream"]["projector.weight"]
    assert torch.equal(heads["one"], heads["again"])
    assert not torch.equal(heads["one"], heads["two"])


@pytest.mark.parametrize("task", DEV)
def test_a_missing_corpus_stops_at_once(task, data, tmp_path):
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ElpError, match=r"\(from ELP_DATA\): no such folder; get .* from https://"):
        run(["-m", "train", *upstream, *flags(task, empty, tmp_path / "exp"), *options(task, "linear")])


def test_what_is_wrong_with_the_test_is_reported_before_training(data, tmp_path, capsys):
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    steps = options("elp_sv", "linear", total_steps=1)
    (data / "VoxCeleb1" / "voxceleb1_test_v2.txt").unlink()
    run(["-m", "train", *upstream, *steps, *flags("elp_sv", data, tmp_path / "exp")])
    printed = capsys.readouterr().err
    assert "an evaluation of test will meet 1 problem: the trial list" in printed
    assert (tmp_path / "exp" / "states-1.ckpt").is_file()


def test_damaged_audio_in_a_worker_is_one_sentence(data, tmp_path):
    path = data / "fluent_speech_commands_dataset" / "wavs" / "speakers" / "trainspk" / "train-003.wav"
    path.write_bytes(b"RIFF")
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    workers = options("elp_ic", "linear")
    workers[1] = workers[1].replace("num_workers=0", "num_workers=1")
    with pytest.raises(ElpError) as caught:
        run(["-m", "train", *upstream, *flags("elp_ic", data, tmp_path / "exp"), *workers])
    assert "train-003.wav" in str(caught.value) and "Traceback" not in str(caught.value)
