"""The ER task: folds, the dev draw, labels, files, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from downstream_heads.elp_er.data import split_dev
from downstream_heads.elp_er.task import choose_fold
from tests import toy_corpora
from tests.task_tools import make_expert, run_split
from upstream_elp.base import folders
from upstream_elp.base.errors import ElpError

FOLDS = [f"fold{number}" for number in range(1, 6)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    return toy_corpora.iemocap(tmp_path / "data")


def make(tmp_path, **more):
    return make_expert("elp_er", tmp_path / "exp", **more)


def names(expert, split):
    return {row.name for row in expert.dataset(split).rows}


@pytest.mark.parametrize("number", range(1, 6))
def test_folds_are_disjoint_and_hold_one_session_out(root, tmp_path, number):
    expert = make(tmp_path, variant=f"fold{number}")
    parts = {split: names(expert, split) for split in ("train", "dev", "test")}
    assert len(set.union(*parts.values())) == sum(map(len, parts.values())) == 30
    assert parts["test"] == {name for name in set.union(*parts.values()) if name.startswith(f"Ses0{number}")}
    assert not any(name.startswith(f"Ses0{number}") for name in parts["train"] | parts["dev"])
    assert (len(parts["train"]), len(parts["dev"])) == (19, 5)  # int(0.8 x 24) as S3PRL rounds


def test_labels(root, tmp_path):
    expert = make(tmp_path)
    rows = {row.name: row.label for row in expert.dataset("test").rows}
    # session 1 begins with hap; excited becomes happy; the seventh utterance is frustrated and unused
    assert [rows[f"Ses01F_impro01_F{n:03d}"] for n in range(6)] == ["hap", "ang", "sad", "hap", "neu", "hap"]
    assert expert.labels == {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def test_the_draw_has_its_own_seed():
    rows = list(range(40))
    state = torch.get_rng_state()
    first, again, other = (split_dev(rows, ratio=0.2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert first == again != other
    assert sorted(first[0] + first[1]) == rows and len(first[1]) == 8
    torch.manual_seed(0)
    assert first[0] + first[1] == torch.randperm(40).tolist()  # S3PRL's random_split after manual_seed(0)
    for ratio in (0.0, 1.0):
        with pytest.raises(ElpError, match="valid_ratio"):
            split_dev(rows, ratio=ratio, seed=0)


def test_split_seed_moves_dev_but_not_test(root, tmp_path):
    one, two = make(tmp_path), make(tmp_path, datarc={"split_seed": 7})
    assert names(one, "dev") != names(two, "dev") and names(one, "test") == names(two, "test")


def test_a_whole_session_as_the_dev_set(root, tmp_path):
    expert = make(tmp_path, datarc={"dev_session": "Session4"})
    assert {name[:5] for name in names(expert, "dev")} == {"Ses04"}
    assert {name[:5] for name in names(expert, "train")} == {"Ses02", "Ses03", "Ses05"}
    assert names(expert, "test") == names(make(tmp_path), "test")
    for datarc, message in (
        ({"dev_session": "Session1"}, "dev_session is Session1, which is the test set of this fold"),
        ({"dev_session": "Session6"}, r"datarc\.dev_session must be one of Session1.*, but is 'Session6'"),
    ):
        with pytest.raises(ElpError, match=message):
            make(tmp_path, datarc=datarc).dataset("dev")


def test_a_corpus_may_list_its_speakers(root, tmp_path):
    names = ["Ses01F_impro01_F000", "Ses01F_impro01_F001"]
    assert make(tmp_path).item_speakers("test", names) == ["Ses01F", "Ses01F"]
    (root / "speakers.csv").write_text(f"utterance,speaker\n{names[1]},someone\n")
    assert make(tmp_path).item_speakers("test", names) == ["Ses01F", "someone"]
    for wrong in ("", "utterance;speaker\n", "utterance,speaker\na,b,c\n"):
        (root / "speakers.csv").write_text(wrong)
        with pytest.raises(ElpError, match=r"speakers\.csv must be a table with the columns utterance,speaker"):
            make(tmp_path).item_speakers("test", names)


def test_order_of_files_on_disk_does_not_matter(root, tmp_path, monkeypatch):
    before = [row.name for row in make(tmp_path).dataset("dev").rows]
    entries = folders._entries
    monkeypatch.setattr(folders, "_entries", lambda folder: entries(folder)[::-1])
    assert before == [row.name for row in make(tmp_path).dataset("dev").rows]


def test_choice_of_the_fold():
    assert choose_fold(None, None) == "fold1"
    assert choose_fold("fold3", None) == choose_fold(None, "fold3") == choose_fold("fold3", "fold3") == "fold3"
    with pytest.raises(ElpError, match=r"-v is fold2, but config key .*test_fold is fold3; set only one"):
        choose_fold("fold2", "fold3")
    with pytest.raises(ElpError, match=r"-v must be one of fold1, fold2, .*, but is fold6"):
        choose_fold("fold6", None)
    with pytest.raises(ElpError, match=r"test_fold must be one of .*, but is 'Session1'"):
        choose_fold(None, "Session1")


def test_files_and_metrics(root, tmp_path):
    expert = make(tmp_path, variant="fold3").eval()
    records, *_ = run_split(expert, "test", step=9)
    records["predict"] = ["neu"] * len(records["truth"])
    expert.log_records("test", records, None, 9)
    predict = (tmp_path / "exp" / "test_fold3_predict.txt").read_text().splitlines()
    truth = (tmp_path / "exp" / "test_fold3_truth.txt").read_text().splitlines()
    assert predict[0] == "Ses03F_impro01_F000 neu" and truth[0] == "Ses03F_impro01_F000 sad"
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])
    # session 3: sad hap neu hap ang sad -> one neu of six, four classes
    assert line["metrics"]["acc"] == pytest.approx(100 / 6) and line["metrics"]["uacc"] == 25.0
    train = [row.label for row in expert.rows("train")]
    assert max(set(train), key=train.count) == "hap"
    assert line["chance"] == pytest.approx({"acc": 100 * 2 / 6, "uacc": 25.0, "uniform": 25.0})


def test_crop_is_for_training_only(root, tmp_path):
    expert = make(tmp_path, datarc={"crop": 1000})
    assert all(len(wav) == 1000 for wavs, *_ in expert.get_dataloader("train") for wav in wavs)
    assert all(len(wav) > 1000 for wavs, *_ in expert.get_dataloader("dev") for wav in wavs)


def test_other_rates_are_converted_as_the_recipe_does(root, tmp_path):
    path = next((root / "Session1" / "sentences" / "wav").glob("*/*_F000.wav"))
    toy_corpora.write_wav(path, toy_corpora.tone(seconds=0.5, rate=48000), 48000)
    loader = make(tmp_path).get_dataloader("test")
    assert len(next(iter(loader))[0][0]) == 8000
    with pytest.raises(ElpError, match="48000 Hz"):
        list(make(tmp_path, datarc={"resample": False}).get_dataloader("test"))


def evaluation(root, session):
    return next((root / f"Session{session}" / "dialog" / "EmoEvaluation").glob("*.txt"))


def test_incomplete_corpora(root, tmp_path):
    wav = next((root / "Session2" / "sentences" / "wav").glob("*/*_F001.wav"))
    table = evaluation(root, 2)
    text = table.read_text()
    content = wav.read_bytes()

    wav.unlink()
    with pytest.raises(ElpError, match="labels Ses02F_impro01_F001, but the session has no Ses02F"):
        make(tmp_path).dataset("train")
    assert len(make(tmp_path, datarc={"missing": "skip"}).parts().train) == 23
    wav.write_bytes(content)

    table.write_text("\n".join(line for line in text.splitlines() if "F001" not in line))
    with pytest.raises(ElpError, match=r"Ses02F_impro01_F001\.wav has no label in Session2"):
        make(tmp_path).dataset("train")

    table.write_text(text.replace("F001\t", "F001\t\t[2.5]\t", 1).replace("\tfru\t", "\tbored\t"))
    with pytest.raises(ElpError, match="the unknown label") as caught:
        make(tmp_path).dataset("train")
    assert "bored" in str(caught.value)

    table.unlink()
    with pytest.raises(ElpError, match=r"Session2/dialog/EmoEvaluation is missing or contains no \.txt file"):
        make(tmp_path).dataset("train")

    shutil.rmtree(root / "Session2")
    with pytest.raises(ElpError, match=r"Session2/sentences/wav is missing or contains no \.wav file"):
        make(tmp_path).dataset("train")


def test_hidden_files_of_the_archive_are_passed_over(root, tmp_path):
    table = evaluation(root, 1)
    (table.parent / f"._{table.name}").write_bytes(b"\x00\xff[")
    assert len(make(tmp_path).parts().test) == 6


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, dtype=np.float32), "is empty"),
        (np.zeros(399, dtype=np.float32), "only 399 samples"),
        (np.zeros((4000, 2), dtype=np.float32), "2 channels"),
        (np.full(4000, np.nan, dtype=np.float32), "NaN"),
    ],
)
def test_bad_audio(root, tmp_path, samples, message):
    path = next((root / "Session1" / "sentences" / "wav").glob("*/*_F002.wav"))
    toy_corpora.soundfile.write(path, samples, 16000, subtype="FLOAT")
    with pytest.raises(ElpError, match=message) as caught:
        list(make(tmp_path).get_dataloader("test"))
    assert path.name in str(caught.value)


def write_meta(folder, train, test, labels=None):
    for name, rows in (("train", train), ("test", test)):
        path = folder / "Session1" / f"{name}_meta_data.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"labels": labels or {"ang": 0, "neu": 1}, "meta_data": rows}))


def test_given_metadata(root, tmp_path):
    wav, other = (
        next((root / session / "sentences" / "wav").glob("*/*_F000.wav")).relative_to(root).as_posix()
        for session in ("Session1", "Session2")
    )
    rows = [{"path": wav, "label": "neu", "speaker": "Ses01F"}] * 3
    train = [{"path": other, "label": "neu", "speaker": "Ses02F"}]
    write_meta(tmp_path / "meta", train, rows)
    expert = make(tmp_path, datarc={"meta_data": str(tmp_path / "meta")})
    assert expert.names == ["ang", "neu"] and expert.model.post_net.linear.out_features == 2
    assert next(iter(expert.get_dataloader("test")))[1] == [1, 1, 1]
    for bad, message in (
        ([{"path": wav}], "is not S3PRL's"),
        ([{"path": wav, "label": "joy"}], r"undeclared labels \['joy'\]"),
        ([], "is empty"),
        (rows + train, "is in the training and in the test metadata"),
        ([{"path": wav, "label": "ang"}], "the training part of fold 1 has no utterance labelled ang"),
        (
            [{"path": "Session1/nothing.wav", "label": "neu"}],
            "nothing.wav is missing, but is in the metadata",
        ),
    ):
        write_meta(tmp_path / "meta", train, bad)
        with pytest.raises(ElpError, match=message):
            make(tmp_path, datarc={"meta_data": str(tmp_path / "meta")})
    write_meta(tmp_path / "meta", train, rows, labels={"neu": 1, "ang": 3})
    with pytest.raises(ElpError, match="must number its labels 0, 1"):
        make(tmp_path, datarc={"meta_data": str(tmp_path / "meta")})
    with pytest.raises(ElpError, match=r"train_meta_data\.json does not exist"):
        make(tmp_path, datarc={"meta_data": str(tmp_path / "elsewhere")})


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"valid_ratio": "abc"}, r"datarc\.valid_ratio must be a number of at least 0 and below 1, but is 'abc'"),
        ({"valid_ratio": True}, r"datarc\.valid_ratio must be a number.*, but is True"),
        ({"split_seed": "abc"}, r"datarc\.split_seed must be a whole number.*, but is 'abc'"),
        ({"crop": "abc"}, r"datarc\.crop must be a whole number.*, but is 'abc'"),
        ({"meta_data": 5}, r"datarc\.meta_data must be a path.*, but is 5"),
        ({"test_fold": 2}, r"datarc\.test_fold must be one of fold1.*, but is 2"),
    ],
)
def test_data_options_of_the_wrong_type(root, tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, datarc=datarc)
