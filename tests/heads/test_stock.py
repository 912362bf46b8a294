"""Our `superb` heads against S3PRL's own tasks: equal state dicts and data, bitwise equal outputs and files."""

import csv
from collections import defaultdict

import pytest
import torch

from downstream_heads.elp_asr.characters import Characters, words
from tests import toy_corpora
from tests.task_tools import DIM, RATE, Scalars, fake_features, make_expert, packaged_config


@pytest.fixture(autouse=True)
def corpora(tmp_path, monkeypatch):
    from upstream_elp.host import compat

    compat.install()
    toy_corpora.write_all(tmp_path / "data")
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


def run(expert, split, features, others):
    """Forward one batch and log it; return (loss, records). Dropout draws the same in both."""
    records = defaultdict(list)
    torch.manual_seed(5)
    with torch.no_grad():
        loss = expert(split, features, *others, records=records)
    expert.log_records(split, records=records, logger=Scalars(), global_step=1, batch_ids=[0], total_batch_num=1)
    return loss, records


def same_state(stock, ours):
    """Check that the parameters of both have the same names and shapes, and copy the stock values to ours."""
    only_ours = ("best_score", "_extra_state")  # the latter contains the label tables
    theirs = {key: value for key, value in stock.state_dict().items() if key not in only_ours}
    assert {key: value.shape for key, value in theirs.items()} == {
        key: value.shape for key, value in ours.state_dict().items() if key not in only_ours
    }
    ours.load_state_dict(stock.state_dict())


def test_same_seed_gives_the_stock_initial_weights(tmp_path):
    from s3prl.downstream.fluent_commands.expert import DownstreamExpert

    config = packaged_config("elp_ic")["downstream_expert"]
    datarc = {**config["datarc"], "file_path": str(tmp_path / "data" / "fluent_speech_commands_dataset")}
    torch.manual_seed(3)
    stock = DownstreamExpert(DIM, {"datarc": datarc, "modelrc": config["modelrc"]}, tmp_path)
    ours = make_expert("elp_ic", tmp_path, seed=3)
    for key, value in stock.state_dict().items():
        assert key == "best_score" or torch.equal(value, ours.state_dict()[key])


def write_stock_asr_files(tmp_path):
    """Write the length tables and the dictionary that S3PRL's task reads."""
    root = tmp_path / "data" / "LibriSpeech"
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        rows = []
        for path in sorted((root / part).glob("*/*/*.flac")):
            samples = len(toy_corpora.soundfile.read(path)[0])
            rows.append((path.relative_to(root).as_posix(), samples, 0))
        with (tmp_path / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_path", "length", "label"), *rows])
    symbols = Characters().symbols[4:]
    (tmp_path / "char.dict").write_text("".join(f"{symbol} 1\n" for symbol in symbols))


@pytest.mark.parametrize("total_rate", [-1, 960])
@pytest.mark.parametrize("style", ["concat", "drop"])
def test_asr(tmp_path, total_rate, style):
    from s3prl.downstream.asr.expert import DownstreamExpert

    write_stock_asr_files(tmp_path)
    rnns = {"dim": [7, 5], "layer_norm": [True, False], "proj": [False, True], "sample_rate": [1, 2]}
    modelrc = {"project_dim": 9, "RNNs": {**packaged_config("elp_asr")["downstream_expert"]["modelrc"]["RNNs"], **rnns}}
    modelrc["RNNs"].update(total_rate=total_rate, sample_style=style)
    datarc = {"batch_size": 4, "bucket_file": str(tmp_path), "dict_path": str(tmp_path / "char.dict")}
    datarc["libri_root"] = str(tmp_path / "data" / "LibriSpeech")
    datarc["decoder_args"] = {"decoder_type": "None"}
    ours = make_expert("elp_asr", tmp_path / "ours", datarc=datarc, modelrc=modelrc)
    block = {
        "datarc": {**packaged_config("elp_asr")["downstream_expert"]["datarc"], **datarc, "num_workers": 0},
        "modelrc": {**modelrc, "select": "RNNs"},
    }
    (tmp_path / "stock").mkdir()
    stock = DownstreamExpert(DIM, RATE, block, str(tmp_path / "stock"))
    same_state(stock, ours)
    stock.eval(), ours.eval()
    assert [sorted(names) for *_, names in stock.get_dataloader("test-clean")] == [
        sorted(names) for *_, names in ours.get_dataloader("test")
    ]
    for wavs, *others in stock.get_dataloader("dev-clean"):
        features = fake_features(wavs)
        stock_loss, stock_records = run(stock, "dev-clean", features, others)
        loss, records = run(ours, "dev-clean", features, others)
        assert torch.equal(stock._get_log_probs(features)[0], ours.log_probs(features)[0])
        assert torch.equal(stock_loss, loss)
        assert [text.split() for text in stock_records["pred_tokens"]] == records["pred_tokens"]
        assert [text.split() for text in stock_records["target_tokens"]] == records["target_tokens"]
        assert stock_records["pred_words"] == [words(row) for row in records["pred_tokens"]]
        for name in ("dev-clean-noLM-hyp.ark", "dev-clean-noLM-ref.ark"):
            assert (tmp_path / "stock" / name).read_text() == (tmp_path / "ours" / name).read_text()
        assert ours.inference(features, ["x"]) == stock.inference(features, ["x"])
        assert (tmp_path / "stock" / "inference.ark").read_text() == (tmp_path / "ours" / "inference.ark").read_text()
    stock.train(), ours.train()
    for wavs, *others in stock.get_dataloader("dev-clean"):
        features = fake_features(wavs)
        assert torch.equal(run(stock, "train", features, others)[0], run(ours, "train", features, others)[0])
    stock_batches = sorted(sorted(names) for *_, names in stock.get_dataloader("train"))
    assert stock_batches == sorted(sorted(names) for *_, names in ours.get_dataloader("train"))
    assert sorted(map(len, stock_batches)) == [2, 2, 3]  # seven utterances, batches of four, the full one halved


def test_asr_labels(tmp_path):
    from s3prl.downstream.asr.dictionary import Dictionary

    write_stock_asr_files(tmp_path)
    dictionary = Dictionary.load(str(tmp_path / "char.dict"))
    characters = Characters()
    assert dictionary.symbols == characters.symbols and len(characters) == 32
    for text in toy_corpora.SENTENCES:
        spelled = " ".join(text.replace(" ", "|")) + " |"
        stock = dictionary.encode_line(spelled, line_tokenizer=str.split).tolist()
        assert characters.encode(text, superb=True) == stock
        assert characters.tokens(stock) == dictionary.string(stock).split()


def write_stock_meta(tmp_path):
    from s3prl.downstream.emotion import IEMOCAP_preprocess

    IEMOCAP_preprocess.main(str(tmp_path / "data" / "IEMOCAP"))
    return tmp_path / "data" / "IEMOCAP" / "meta_data"


def test_er(tmp_path):
    from s3prl.downstream.emotion.expert import DownstreamExpert

    meta = str(write_stock_meta(tmp_path))
    config = packaged_config("elp_er")["downstream_expert"]
    datarc = {**config["datarc"], "root": str(tmp_path / "data" / "IEMOCAP"), "meta_data": meta, "num_workers": 0}
    (tmp_path / "stock").mkdir()
    stock = DownstreamExpert(
        DIM, {"datarc": {**datarc, "test_fold": "fold2"}, "modelrc": config["modelrc"]}, tmp_path / "stock"
    )
    ours = make_expert("elp_er", tmp_path / "ours", variant="fold2", datarc=datarc)
    same_state(stock, ours)
    stock.eval(), ours.eval()
    for split in ("train", "dev", "test"):
        theirs = [stock.train_dataset, stock.dev_dataset, stock.test_dataset][("train", "dev", "test").index(split)]
        assert [item[2] for item in theirs] == [row.name for row in ours.dataset(split).rows]
    for split in ("dev", "test"):
        wavs, *others = next(iter(stock.get_dataloader(split)))
        our_wavs, *_ = next(iter(ours.get_dataloader(split)))
        features = fake_features(wavs)
        assert all(torch.equal(torch.tensor(a), torch.tensor(b)) for a, b in zip(wavs, our_wavs, strict=True))
        stock_loss, stock_records = run(stock, split, features, others)
        loss, records = run(ours, split, features, others)
        assert torch.equal(stock_loss, loss)
        assert stock_records["predict"] == records["predict"]
        for kind in ("predict", "truth"):
            name = f"{split}_fold2_{kind}.txt"
            assert (tmp_path / "stock" / name).read_text() == (tmp_path / "ours" / name).read_text()


def test_er_reads_the_corpus_like_the_stock_preprocessing(tmp_path):
    meta = str(write_stock_meta(tmp_path))
    direct, stock = (
        make_expert("elp_er", tmp_path / "exp", variant="fold4", datarc={"meta_data": each}) for each in (None, meta)
    )
    assert direct.labels == stock.labels
    for part in ("train", "test"):
        one, two = getattr(direct.parts(), part), getattr(stock.parts(), part)
        assert one == sorted(two, key=lambda row: row.path) and len(one) > 0


def test_ic(tmp_path):
    from s3prl.downstream.fluent_commands.expert import DownstreamExpert

    config = packaged_config("elp_ic")["downstream_expert"]
    root = str(tmp_path / "data" / "fluent_speech_commands_dataset")
    datarc = {**config["datarc"], "file_path": root, "num_workers": 0}
    (tmp_path / "stock").mkdir()
    stock = DownstreamExpert(DIM, {"datarc": datarc, "modelrc": config["modelrc"]}, tmp_path / "stock")
    ours = make_expert("elp_ic", tmp_path / "ours", datarc={"file_path": root})
    assert stock.values_per_slot == ours.sizes
    same_state(stock, ours)
    stock.eval(), ours.eval()
    for split in ("dev", "test"):
        wavs, *others = next(iter(stock.get_dataloader(split)))
        _, *our_others = next(iter(ours.get_dataloader(split)))
        assert [list(row) for row in others[0]] == [list(row) for row in our_others[0]]
        features = fake_features(wavs)
        stock_loss, stock_records = run(stock, split, features, others)
        loss, records = run(ours, split, features, others)
        assert torch.equal(stock_loss, loss)
        assert stock_records["predict"] == records["predict"] and stock_records["truth"] == records["truth"]
        for kind in ("predict", "truth"):
            name = f"{split}_{kind}.csv"
            assert (tmp_path / "stock" / name).read_text() == (tmp_path / "ours" / name).read_text()
