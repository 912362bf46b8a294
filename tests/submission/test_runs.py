"""Predictions of real, short runs of all four tasks: packed, opened and scored as the runs themselves did."""

import json
import zipfile

import pytest
import yaml

from tests.programs import elp
from tests.submission.short_runs import FOLDS, SHORT, own_metric, words_of
from tests.task_tools import packaged_config
from upstream_elp.run import run
from upstream_elp.statistics import interval, load_items
from upstream_elp.submission.layout import BY_PATH, PARTS


@pytest.fixture(autouse=True)
def without_macs(monkeypatch):
    """Counting has its own tests."""
    monkeypatch.setattr("upstream_elp.submission.computed.superb_macs", lambda upstream: {})


def test_scores_are_those_of_the_runs(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    out = tmp_path / "out.zip"
    assert elp("submit", out, *words_of(found), "--data", data, monkeypatch=monkeypatch) == 0
    assert "note: " in capsys.readouterr().out  # toy corpora are not SUPERB's test sets
    assert elp("score", out, "--data", data, "--json", monkeypatch=monkeypatch) == 0
    printed = json.loads(capsys.readouterr().out)["scores"]
    scores = {name: one["value"] for name, one in printed.items()}
    folds = {f"ER_{fold}_acc": own_metric(found[fold], "acc") for fold in FOLDS}
    expected = {
        "ASR_wer": own_metric(found["asr"], "wer"),
        "SV_eer": own_metric(found["sv"], "eer"),
        **folds,
        "ER_acc": sum(folds.values()) / 5,
        "IC_acc": own_metric(found["ic"], "acc"),
    }
    assert scores == pytest.approx(expected, abs=1e-9) and list(scores) == list(expected)
    for name, exp, split in (("SV_eer", "sv", "test"), ("IC_acc", "ic", "test"), ("ER_fold3_acc", "fold3", "test")):
        own = interval(load_items(found[exp], split)).to_dict()
        assert printed[name]["interval"] == pytest.approx(own, abs=1e-4, nan_ok=True)  # scores are written as float32


def test_the_table_has_two_decimals_and_points(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    out = tmp_path / "out.zip"
    assert elp("submit", out, *words_of(found), "--data", data, monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert elp("score", out, "--data", data, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    wer = own_metric(found["asr"], "wer")
    row = next(line.split() for line in lines if line.startswith("ASR_wer"))
    assert row[1:4] == [f"{wer:.2f}", "3", f"{1000 * (wer - 23.18) / (3.62 - 23.18):.1f}"]
    assert any(line.startswith("SUPERB points") for line in lines)
    assert "(no interval: " in " ".join(row)  # one speaker
    (note,) = (line for line in lines if line.startswith("note: "))
    assert note.count("SUPERB's has") == len(PARTS) - 1  # all but the language model's


def test_the_zip_contains_what_s3prl_s_script_would_pack(runs, tmp_path, monkeypatch):
    """S3PRL's script copies each file, unchanged, to predict/<task>_public/predict.<ending>."""
    data, found = runs
    out = tmp_path / "out.zip"
    assert elp("submit", out, *words_of(found), "--data", data, monkeypatch=monkeypatch) == 0
    expected = {
        "predict/asr_public/predict.ark": found["asr"] / "test-clean-noLM-hyp.ark",
        "predict/sv_public/predict.txt": found["sv"] / "test_predict.txt",
        "predict/ic_public/predict.csv": found["ic"] / "test_predict.csv",
    }
    expected |= {f"predict/er_{fold}_public/predict.txt": found[fold] / f"test_{fold}_predict.txt" for fold in FOLDS}
    folders = {"predict/", *(f"{name.rpartition('/')[0]}/" for name in expected)}
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {*expected, *folders} and set(expected) <= set(BY_PATH)
        assert all(archive.read(name) == path.read_bytes() for name, path in expected.items())
    again = tmp_path / "again.zip"
    assert elp("submit", again, *words_of(found), "--data", data, monkeypatch=monkeypatch) == 0
    assert out.read_bytes() == again.read_bytes()


def test_truth_files_of_the_runs_are_enough(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    truth = tmp_path / "truth"
    truth.mkdir()
    for exp in found.values():
        for path in (*exp.glob("test*_truth.*"), *exp.glob("test*-ref.ark")):
            (truth / path.name).write_bytes(path.read_bytes())
    assert elp("submit", tmp_path / "a.zip", *words_of(found), "--truth", truth, monkeypatch=monkeypatch) == 0
    assert elp("submit", tmp_path / "b.zip", *words_of(found), "--data", data, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    results = []
    for flag, place in (("--truth", truth), ("--data", data)):
        capsys.readouterr()
        assert elp("score", tmp_path / "a.zip", flag, place, "--json", monkeypatch=monkeypatch) == 0
        results.append(json.loads(capsys.readouterr().out)["scores"])
    # the speakers of IC are in the corpus' table only
    assert results[0].pop("IC_acc")["value"] == results[1].pop("IC_acc")["value"]
    assert results[0] == results[1]
    # S3PRL's own truth of SV is always empty; a trial list takes its place
    (truth / "test_truth.txt").write_text("")
    (truth / "voxceleb1_test_v2.txt").write_bytes((data / "VoxCeleb1" / "voxceleb1_test_v2.txt").read_bytes())
    capsys.readouterr()
    assert elp("score", tmp_path / "a.zip", "--truth", truth, "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["scores"].items() >= results[0].items()


def test_a_copied_fold_and_a_missing_one(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "test_fold1_predict.txt").write_bytes((found["fold1"] / "test_fold1_predict.txt").read_bytes())
    four = [found[fold] for fold in FOLDS[:4]]
    for last, message in ((copied, "must name five different folds"), (found["fold1"], "must name all five folds")):
        out = tmp_path / "out.zip"
        assert elp("submit", out, "--er", *four, last, "--data", data, monkeypatch=monkeypatch) == 2
        assert message in capsys.readouterr().err and not out.exists()
    # the answers of one fold under the name of another: its keys belong to the other session
    (copied / "test_fold1_predict.txt").unlink()
    (copied / "test_fold5_predict.txt").write_bytes((found["fold1"] / "test_fold1_predict.txt").read_bytes())
    assert elp("submit", tmp_path / "out.zip", "--er", *four, copied, "--data", data, monkeypatch=monkeypatch) == 2
    assert "(those of er_fold1_public)" in capsys.readouterr().err
    assert elp("submit", tmp_path / "out.zip", "--sv", found["ic"], "--data", data, monkeypatch=monkeypatch) == 2
    assert "must contain test_predict.txt, but does not; evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("out.zip",), "at least one run must be named"),
        (("out.tar", "--ic", "ic"), "must end in .zip"),
        (("out.zip", "--ic", "nowhere"), "there is no such folder"),
        (("out.zip", "--ic", "ic"), "pass --data DIR"),
        (("out.zip", "--ic", "ic", "--truth", "empty"), "must contain test_truth.csv"),
        (("out.zip", "--ic", "ic", "--data", "nowhere"), "--data nowhere: no such folder"),
        (("no/where/out.zip", "--ic", "ic"), "does not exist; create it first"),
    ],
)
def test_wrong_calls(words, message, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ELP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "ic").symlink_to(runs[1]["ic"])
    assert elp("submit", *words, monkeypatch=monkeypatch) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not (tmp_path / "out.zip").exists()


def test_a_run_of_s3prl_s_own_task(runs, tmp_path, monkeypatch, capsys):
    """S3PRL's IC, which writes the same file, is packed and scored like ours."""
    data, exp = runs[0], tmp_path / "stock"
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    config = packaged_config("elp_ic")
    config["runner"] |= SHORT
    root = data / "fluent_speech_commands_dataset"
    config["downstream_expert"]["datarc"] |= {"file_path": str(root), "num_workers": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["-u", "fbank", "-d", "fluent_commands", "-c", str(tmp_path / "config.yaml"), "-p", str(exp)]
    run(["-m", "train", *words, "--device", "cpu"])
    run(["-m", "evaluate", "-t", "test", "-e", str(exp / "states-1.ckpt"), "--device", "cpu"])
    out = tmp_path / "out.zip"
    assert elp("submit", out, "--ic", exp, "--data", data, monkeypatch=monkeypatch) == 0
    with zipfile.ZipFile(out) as archive:
        assert archive.read("predict/ic_public/predict.csv") == (exp / "test_predict.csv").read_bytes()
    capsys.readouterr()
    assert elp("score", out, "--truth", exp, "--json", monkeypatch=monkeypatch) == 0
    value = json.loads(capsys.readouterr().out)["scores"]["IC_acc"]["value"]
    lines = (exp / "log.log").read_text().splitlines()
    assert value == pytest.approx(100 * float(next(line for line in lines if line.startswith("test")).split(": ")[1]))
