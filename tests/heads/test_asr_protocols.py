"""ASR in the L-E reference's protocol: the symbols of wav2vec 2.0, normalised waves, Libri-light's 10 hours."""

import json

import numpy as np
import pytest
import torch

import upstream_elp
from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.predictor import Predictor
from tests import toy_corpora
from tests.task_runs import flags, options
from tests.task_tools import DIM, RATE, fake_features, make_expert, run_split
from tests.toys import tiny_backbone
from upstream_elp.audio.reading import load_audio
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run

#: the vocabulary of facebook/wav2vec2-base-960h, in its order
WAV2VEC2 = ["<pad>", "<s>", "</s>", "<unk>", *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """LibriSpeech and Libri-light's folders; tests must not write to them."""
    folder = tmp_path_factory.mktemp("data")
    toy_corpora.librispeech(folder)
    toy_corpora.librilight(folder)
    return folder


@pytest.fixture(autouse=True)
def places(data, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(data))
    monkeypatch.setenv("ELP_CACHE", str(data / "cache"))


def make(tmp_path, **datarc):
    return make_expert("elp_asr", tmp_path / "exp", modelrc={"head": "linear"}, datarc=datarc)


def test_the_symbols_are_those_of_wav2vec2(tmp_path):
    characters = Characters(order="wav2vec2")
    assert characters.symbols == WAV2VEC2 and len(characters) == 32
    assert characters.encode("it's on", superb=False) == [WAV2VEC2.index(letter) for letter in "IT'S|ON"]
    assert characters.tokens([0, 10, 6, 0]) == ["I", "T"]
    assert Characters.of(WAV2VEC2, where="labels").symbols == WAV2VEC2
    expert = make(tmp_path, symbols="wav2vec2")
    assert expert.label_tables() == WAV2VEC2
    with pytest.raises(ElpError, match="numbers the labels of elp_asr differently"):
        make(tmp_path).load_state_dict(expert.state_dict())


def test_both_orders_give_the_same_loss_and_text(tmp_path):
    """Only the names of the blank and of a symbol that nothing uses differ."""
    found = []
    for symbols in ("fairseq", "wav2vec2"):
        expert = make(tmp_path, symbols=symbols, protocol="plain", batch_size=3)
        records, _, losses = run_split(expert, "dev-clean")
        found.append((torch.stack(losses), records["pred_tokens"]))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def test_normalised_waves_are_those_of_hugging_face(tmp_path, data):
    upstream_elp.register()  # transformers imports torchaudio, which may need a fix first
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expert = make(tmp_path, normalize=True, protocol="plain")
    dataset = expert.dataset("dev-clean")
    for place, (wav, *_) in enumerate(batch for batch in zip(*dataset[0], strict=True)):
        whole = load_audio(data / "LibriSpeech" / dataset.batches[0][place]).numpy()
        wanted = extractor(whole, sampling_rate=16000)["input_values"][0]
        assert wav.dtype == np.float32 and np.abs(wav - wanted).max() < 1e-5
        assert abs(whole.std() - 1) > 0.1


def test_a_trained_head_normalises_too(tmp_path, data):
    audio = Predictor.audio_options({"normalize": True})
    head = Predictor(
        upstream_dim=DIM, upstream_rate=RATE, modelrc={"head": "linear"}, audio=audio, labels=WAV2VEC2, threshold=None
    )
    path = next((data / "LibriSpeech" / "dev-clean").glob("*/*/*.flac"))
    raw = load_audio(path)
    assert torch.equal(head.read(path), head.prepare(raw, "wave"))
    assert head.read(path).std() == pytest.approx(1, abs=1e-3) and raw.std() < 0.5
    plain = Predictor(
        upstream_dim=DIM,
        upstream_rate=RATE,
        modelrc={"head": "linear"},
        audio=Predictor.audio_options({}),
        labels=WAV2VEC2,
        threshold=None,
    )
    assert torch.equal(plain.prepare(raw, "wave"), raw)
    assert len(plain.answers(fake_features([raw]), ["a"])) == 1
    with pytest.raises(ElpError, match=r"audio\.normalize must be true or false, but is 'yes'"):
        Predictor.audio_options({"normalize": "yes"})


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"symbols": "hf"}, r"datarc\.symbols must be one of fairseq, wav2vec2, but is 'hf'"),
        ({"normalize": "false"}, r"datarc\.normalize must be true or false, but is 'false'"),
    ],
)
def test_wrong_values(tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, **datarc)


def test_the_reference_recipe_runs_on_libri_light(data, tmp_path):
    """With its own epochs, schedule, symbols and waves; only the number of epochs is smaller."""
    exp = tmp_path / "exp"
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone()), "-g", "le"]
    short = options("elp_asr", "linear", total_steps="2 epochs", eval_step="last")
    short[1] += ",,config.scheduler={name: ELPStepDecay, epochs: 2, every: 1, factor: 0.5}"
    run(["-m", "train", *upstream, *flags("elp_asr", data, exp), "-c", "asr_reference", *short])
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"]) for line in lines if line["split"] != "train"] == [("dev-clean", 4)]
    state = torch.load(exp / "states-4.ckpt", weights_only=True)["Downstream"]
    assert json.loads(bytes(state["_extra_state"].tolist()))["labels"] == WAV2VEC2
    run(["-m", "train", "-e", str(exp), "--data", str(data), "--device", "cpu", "-o", "config.runner.total_steps=5"])
    assert (exp / "states-5.ckpt").is_file()
