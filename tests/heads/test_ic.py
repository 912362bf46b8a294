"""The IC task: slots, class numbers, files, and what is refused."""

import json
from collections import defaultdict

import numpy as np
import pytest
import torch

from downstream_heads.elp_ic.data import SLOTS, Command, slot_values
from tests import toy_corpora
from tests.task_tools import fake_features, make_expert, run_split
from upstream_elp.base.errors import ElpError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    return toy_corpora.fluent_speech_commands(tmp_path / "data")


def make(tmp_path, **more):
    return make_expert("elp_ic", tmp_path / "exp", **more)


def edit(root, split, change):
    path = root / "data" / f"{split}_data.csv"
    path.write_text(change(path.read_text()))


def test_class_numbers():
    rows = [Command("x", slots) for slots in (("b", "o", "none"), ("a", "o", "here"), ("b", "p", "none"))]
    assert slot_values(rows, order="appearance") == [["b", "a"], ["o", "p"], ["none", "here"]]
    assert slot_values(rows, order="sorted") == [["a", "b"], ["o", "p"], ["here", "none"]]


def test_items(root, tmp_path):
    expert = make(tmp_path)
    assert expert.sizes == [3, 4, 3]  # "none" is a value like others, not a missing one
    _, labels, names = next(iter(expert.get_dataloader("dev")))
    assert names[0] == "valid-000" and [expert.names(label) for label in labels] == list(toy_corpora.INTENTS)


def test_loss_is_the_sum_of_three_cross_entropies(root, tmp_path):
    expert = make(tmp_path).eval()
    wavs, labels, names = next(iter(expert.get_dataloader("dev")))
    features = fake_features(wavs)
    loss = expert("dev", features, labels, names, defaultdict(list))
    logits = expert.logits(features).double()
    expected, start = 0.0, 0
    for slot, size in enumerate(expert.sizes):
        part = logits[:, start : start + size]
        own = torch.stack([row[label[slot]] for row, label in zip(part, labels, strict=True)])
        expected += (part.exp().sum(1).log() - own).mean()
        start += size
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_accuracy_needs_all_three_slots(root, tmp_path):
    expert = make(tmp_path).eval()
    records, *_ = run_split(expert, "test")
    records["predict"] = [("activate", thing, place) for _, thing, place in records["truth"]]
    expert.log_records("test", records, None, 5)
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {key: line["metrics"][key] for key in ("acc", *(f"{slot}_acc" for slot in SLOTS))} == {
        "acc": 50.0,
        "action_acc": 50.0,
        "object_acc": 100.0,
        "location_acc": 100.0,
    }
    assert line["chance"] == {
        "acc": 25.0, "action_acc": 50.0, "object_acc": 25.0, "location_acc": 50.0, "uniform": 25.0
    }  # fmt: skip
    predict = (tmp_path / "exp" / "test_predict.csv").read_text().splitlines()
    truth = (tmp_path / "exp" / "test_truth.csv").read_text().splitlines()
    assert predict[0] == "test-000,activate,none,none" and truth[0] == "test-000,change language,none,none"
    assert len(predict) == len(truth) == 4


def test_bad_tables(root, tmp_path):
    header = ",path,speakerId,transcription,action,object,location"
    edit(root, "train", lambda text: text.replace(header, ",path,speakerId,transcription,action,location"))
    with pytest.raises(ElpError, match=r"train_data\.csv lacks the columns object; it must have path, speakerId"):
        make(tmp_path)
    edit(root, "train", lambda text: header + "\n")
    with pytest.raises(ElpError, match=r"train_data\.csv has no rows"):
        make(tmp_path)


def test_missing_label(root, tmp_path):
    edit(root, "train", lambda text: text.replace("activate,lights,kitchen", "activate,lights,"))
    with pytest.raises(ElpError, match=r"line 3 has no location; data/train_data\.csv line 7 has no location"):
        make(tmp_path)


def test_bad_evaluation_tables_are_reported_before_training(root, tmp_path):
    edit(root, "valid", lambda text: text.replace("music", "radio"))
    with pytest.raises(ElpError, match=r"valid_data\.csv has the object 'radio' in 1 row, but train has no"):
        make(tmp_path).get_dataloader("train")
    (root / "wavs" / "speakers" / "testspk" / "test-001.wav").unlink()
    with pytest.raises(ElpError, match=r"test-001\.wav is missing"):
        make(tmp_path).get_dataloader("test")
    (root / "data" / "test_data.csv").unlink()
    with pytest.raises(ElpError, match=r"test_data\.csv is missing"):
        make(tmp_path).get_dataloader("test")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((4000, 2)), 16000, "2 channels"),
        (toy_corpora.tone(rate=8000), 8000, "8000 Hz"),
        (np.zeros(0), 16000, "is empty"),
    ],
)
def test_bad_audio(root, tmp_path, samples, rate, message):
    path = toy_corpora.write_wav(root / "wavs" / "speakers" / "testspk" / "test-001.wav", samples, rate)
    with pytest.raises(ElpError, match=message) as caught:
        list(make(tmp_path).get_dataloader("test"))
    assert path.name in str(caught.value)
