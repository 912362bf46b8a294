"""ER in the L-E reference's protocol: random folds over utterances, no dev set, the value of the last epoch."""

import json

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from downstream_heads.elp_er.fold import random_fold
from tests import toy_corpora
from tests.task_runs import flags, options
from tests.task_tools import make_expert, run_split
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.iemocap import Utterance
from upstream_elp.run import run

REFERENCE = {"folds": "random", "valid_ratio": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty utterances in five sessions; tests must not write to them."""
    folder = tmp_path_factory.mktemp("data")
    toy_corpora.iemocap(folder)
    return folder


@pytest.fixture(autouse=True)
def places(data, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(data))


def make(tmp_path, *, variant=None, **datarc):
    return make_expert("elp_er", tmp_path / "exp", datarc={**REFERENCE, **datarc}, variant=variant)


@pytest.mark.parametrize("count", [30, 31, 5531])
def test_folds_are_those_of_scikit_learn(count):
    rows = [Utterance(f"Session1/{number:05d}.wav", "neu", "Ses01F") for number in range(count)]
    parts = list(KFold(n_splits=5, shuffle=True, random_state=42).split(np.arange(count)))
    places = {row.path: place for place, row in enumerate(rows)}
    for number, (train, test) in enumerate(parts):
        found = random_fold(rows[::-1], number)
        assert [[places[row.path] for row in part] for part in found] == [train.tolist(), test.tolist()]


def test_five_folds_test_everything_once(tmp_path):
    tested = []
    for number in range(1, 6):
        expert = make(tmp_path, variant=f"fold{number}")
        parts = {split: {row.path for row in expert.rows(split)} for split in ("train", "test")}
        assert len(parts["train"]) == 24 and len(parts["test"]) == 6 and not parts["train"] & parts["test"]
        assert len({path.split("/")[0] for path in parts["test"]}) > 1  # not one session
        tested += parts["test"]
    assert len(tested) == len(set(tested)) == 30


def test_results_are_marked(tmp_path, capsys):
    expert = make(tmp_path, variant="fold2").eval()
    expert.make_dataset("train")
    assert "speakers of the test set are in training, so the results cannot be compared" in capsys.readouterr().out
    run_split(expert, "test")
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text())
    assert (line["fold"], line["folds"], line["speakers_overlap"]) == ("random-fold2", "random", True)
    assert (tmp_path / "exp" / "test_random-fold2_predict.txt").is_file()
    usual = make(tmp_path, folds="session", variant="fold2")
    assert usual.notes() == {"fold": "fold2"} and usual.answer_file("test_predict") == "test_fold2_predict.txt"


def test_checkpoints_belong_to_a_kind_of_folds(tmp_path):
    one, two = make(tmp_path), make(tmp_path, folds="session")
    with pytest.raises(ElpError, match=r"datarc\.folds must be random, as for the checkpoint, but is session"):
        two.load_state_dict(one.state_dict())
    with pytest.raises(ElpError, match=r"datarc\.folds must be session, as for the checkpoint, but is random"):
        one.load_state_dict(two.state_dict())
    one.load_state_dict(make(tmp_path).state_dict())


def test_without_a_dev_set_there_is_none_to_evaluate(tmp_path):
    expert = make(tmp_path)
    with pytest.raises(ElpError, match=r"valid_ratio must be above 0 for a dev set, but is 0; raise it, or evaluate"):
        expert.get_dataloader("dev")


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"folds": "speaker"}, r"datarc\.folds must be one of session, random, but is 'speaker'"),
        ({"meta_data": "meta"}, r"datarc\.meta_data must be null with folds: random"),
        ({"dev_session": "Session2"}, r"dev_session must be null with folds: random, as every .*, but is 'Session2'"),
        ({"valid_ratio": -0.1}, r"datarc\.valid_ratio must be a number of at least 0 and below 1, but is -0\.1"),
    ],
)
def test_wrong_values(tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, **datarc)


def test_a_run_takes_the_last_epoch_and_resumes(data, tmp_path):
    exp = tmp_path / "exp"
    flag, text = options("elp_er", "linear", total_steps="2 epochs", eval_step="last", save_step=100)
    where = "config.downstream_expert.datarc"
    more = [f"{where}.folds=random", f"{where}.valid_ratio=0", f"{where}.train_batch_size=8"]
    text = ",,".join([text, "config.runner.eval_dataloaders=[test]", *more])
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone())]
    run(["-m", "train", *upstream, *flags("elp_er", data, exp), flag, text])
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"], line["items"]) for line in lines if line["split"] != "train"] == [
        ("test", 6, 6)
    ]
    assert not list(exp.glob("*-best.ckpt"))  # nothing is chosen on test
    run(["-m", "train", "-e", str(exp), "--data", str(data), "--device", "cpu", "-o", "config.runner.total_steps=8"])
    assert torch.load(exp / "states-8.ckpt", weights_only=True)["Step"] == 8
    last = str(exp / "states-8.ckpt")
    run(["-m", "evaluate", "-t", "test", "-e", last, "--data", str(data), "--device", "cpu"])
    line = json.loads((exp / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["checkpoint"] == "states-8.ckpt" and line["fold"] == "random-fold2"
