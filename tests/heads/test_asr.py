"""The ASR task: characters, greedy decoding, length tables, batches, files, and what is refused."""

import itertools
import json
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from downstream_heads.elp_asr.characters import Characters, collapse, frames_needed, words
from downstream_heads.elp_asr.data import make_batches
from downstream_heads.elp_asr.table import Entry, read_length_table
from tests import toy_corpora
from tests.corpus_tools import lengths_of
from tests.task_tools import DIM, fake_features, make_expert, run_split
from upstream_elp.base.errors import ElpError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    return toy_corpora.librispeech(tmp_path / "data")


def make(tmp_path, **more):
    return make_expert("elp_asr", tmp_path / "exp", modelrc={"head": "linear", **more.pop("modelrc", {})}, **more)


def plain_greedy(path, blank):
    """Decode greedily by the definition: merge runs, then drop blanks."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=20))
def test_collapse_equals_the_definition(path):
    assert collapse(path, 0) == plain_greedy(path, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_frames_needed_is_where_ctc_becomes_finite(labels):
    needed = frames_needed(labels)
    for frames in (needed - 1, needed):
        log_probs = torch.zeros(max(1, frames), 1, 4).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_probs, torch.tensor([labels]), torch.tensor([frames]), torch.tensor([len(labels)])
        )
        assert bool(torch.isfinite(loss)) == (frames >= needed)


def test_characters():
    characters = Characters()
    assert "".join(characters.symbols[4:]) == "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"
    assert (len(characters), characters.blank, characters.end) == (32, 0, 2)
    plain, superb = (characters.encode("it's  on", superb=flag) for flag in (False, True))
    assert superb == [*plain, 4, 2]
    assert words(characters.tokens(plain)) == words(characters.tokens(superb)) == ["IT'S", "ON"]
    assert characters.unknown_characters("naïve 2") == "2Ï"


def test_decode_on_padded_batch(root, tmp_path):
    expert = make(tmp_path)
    characters = expert.characters
    spelled = [[0, 5, 5, 0, 5, 6], [7, 7, 2, 4, 8]]
    log_probs = torch.zeros(2, 8, len(characters))
    for row, path in enumerate(spelled):
        for frame, index in enumerate(path):
            log_probs[row, frame, index] = 5.0
        log_probs[row, len(path) :, 9] = 5.0  # padding must not be read
    assert expert.decode(log_probs, torch.tensor([6, 5])) == [["E", "E", "T"], ["A", "|", "O"]]


def entries(lengths):
    return [Entry(f"{n}.flac", length) for n, length in enumerate(sorted(lengths, reverse=True))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(400, 9000), min_size=1, max_size=30), st.integers(1, 8), st.booleans(), st.booleans())
def test_batches_keep_every_utterance_once(lengths, size, superb, training):
    table = entries(lengths)
    batches = make_batches(table, size, superb=superb, training=training)
    flat = [path for batch in batches for path in batch]
    dropped = len(table) - len(flat)
    assert flat == [entry.path for entry in table][: len(flat)]
    assert dropped == (1 if superb and training and size > 1 and len(table) % size == 1 else 0)
    assert all(len(batch) <= size for batch in batches)


def test_halving_is_the_benchmarks():
    table = entries([3000] * 9)
    assert [len(batch) for batch in make_batches(table, 4, superb=True, training=True)] == [2, 2, 2, 2]
    assert [len(batch) for batch in make_batches(table, 4, superb=False, training=True)] == [4, 4, 1]
    assert [len(batch) for batch in make_batches(entries([1500] * 8), 4, superb=True, training=True)] == [4, 4]


def test_lengths_are_cached_by_content(root, tmp_path):
    first = lengths_of(root, "dev-clean")
    cached = list((tmp_path / "cache" / "index").iterdir())
    assert len(cached) == 1 and first == lengths_of(root, "dev-clean")
    path = next(iter(first))
    toy_corpora.write_wav(root / path, toy_corpora.tone(seconds=0.1))
    assert lengths_of(root, "dev-clean")[path] == 1600
    assert {path.suffix for path in root.rglob("*") if path.is_file()} == {".flac", ".txt"}


def test_utterances_go_by_falling_length(root, tmp_path):
    measured = lengths_of(root, "train-clean-100")
    batches = make(tmp_path, datarc={"batch_size": 2}).dataset("train").batches
    paths = [path for batch in batches for path in batch]
    assert [measured[path] for path in paths] == sorted(measured.values(), reverse=True)[: len(paths)]


def test_given_length_table(root, tmp_path):
    measured = lengths_of(root, "dev-clean")
    lines = ["file_path,length,label", *(f"{path},{length},0" for path, length in measured.items())]
    (tmp_path / "dev-clean.csv").write_text("\n".join(lines))
    assert lengths_of(root, "dev-clean", bucket_file=tmp_path) == measured
    (tmp_path / "dev-clean.csv").write_text("path,length\n")
    with pytest.raises(ElpError, match="has no column file_path"):
        read_length_table(tmp_path / "dev-clean.csv")
    with pytest.raises(ElpError, match="has no column file_path"):
        make(tmp_path, datarc={"bucket_file": str(tmp_path)}).dataset("dev-clean")
    with pytest.raises(ElpError, match=r"test-clean\.csv does not exist"):
        read_length_table(tmp_path / "test-clean.csv")


def test_perfect_and_empty_answers(root, tmp_path):
    expert = make(tmp_path).eval()
    records, *_ = run_split(expert, "test-clean")
    perfect = {**records, "pred_tokens": records["target_tokens"]}
    empty = {**records, "pred_tokens": [[] for _ in records["target_tokens"]]}
    for answer, error in ((perfect, 0.0), (empty, 100.0)):
        expert.log_records("test-clean", answer, None, 1)
        line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])
        assert line["metrics"]["wer"] == line["metrics"]["uer"] == error
        assert line["chance"] == {"wer": 100.0, "uer": 100.0}


def test_ark_files(root, tmp_path):
    expert = make(tmp_path).eval()
    records, *_ = run_split(expert, "test")
    records["pred_tokens"][0] = [*"A|B"]
    records["pred_tokens"][1] = []
    expert.log_records("test", records, None, 1)
    hypotheses = (tmp_path / "exp" / "test-clean-noLM-hyp.ark").read_text().split("\n")
    references = (tmp_path / "exp" / "test-clean-noLM-ref.ark").read_text().split("\n")
    assert hypotheses[:2] == ["300-7-0002 A B", "300-7-0001 "]
    assert references == ["300-7-0002 A CAT", "300-7-0001 SEE THE SEA", "300-7-0000 HELLO WORLD", ""]


def test_too_few_frames_are_counted(root, tmp_path, capsys):
    _, _, losses = run_split(make(tmp_path).eval(), "test-clean")  # 20 ms frames suffice
    assert "fewer frames" not in capsys.readouterr().out
    expert = make(tmp_path).eval()
    wavs, labels, names = next(iter(expert.get_dataloader("test-clean")))
    features = [feature[:3] for feature in fake_features(wavs)]
    records = defaultdict(list)
    loss = expert("test-clean", features, labels, names, records)
    assert loss.item() == 0.0 and losses[0].item() > 0
    expert.log_records("test-clean", records, None, 1)
    assert "1 of 1 utterances have fewer frames than labels; their loss counts as zero" in capsys.readouterr().out


def test_superb_head_has_the_published_size(root, tmp_path):
    with torch.device("meta"):
        expert = make_expert("elp_asr", tmp_path / "exp")
    count = sum(parameter.numel() for parameter in expert.model.parameters())
    lstm = sum(2 * (4 * 1024 * (width + 1024) + 8 * 1024) for width in (1024, 2048))
    assert count == lstm + 2048 * 32 + 32
    assert round((count + 768 * 1024 + 1024) / 1e6, 1) == 42.8  # the known number for 768 features


def test_the_best_may_be_chosen_by_characters(root, tmp_path):
    expert = make(tmp_path, datarc={"best_by": "uer"})
    records = {"loss": [1.0], "too_short": [], "filenames": ["x"], "target_tokens": [[*"HELLO"]]}
    names = []
    for guess in ("", "H", "J", "HE"):  # no word is ever right
        names += expert.log_records("dev", {**records, "pred_tokens": [[*guess]]}, None, len(names))
    assert names == ["dev-clean-best.ckpt"] * 3
    assert expert.best_score.item() == pytest.approx(60.0)


def test_an_utterance_without_a_frame_left(root, tmp_path):
    expert = make(tmp_path, modelrc={"head": "superb", "project_dim": 4, "RNNs": {"dim": [4, 4], "total_rate": 960}})
    with pytest.raises(ElpError, match="no frame left"):
        expert.log_probs([torch.zeros(2, DIM)])


def test_linear_head_is_one_layer(root, tmp_path):
    shapes = {name: tuple(p.shape) for name, p in make(tmp_path).named_parameters()}
    assert shapes == {"model.lm_head.weight": (32, DIM), "model.lm_head.bias": (32,)}


def change_transcript(root, change):
    table = root / "train-clean-100" / "100" / "7" / "100-7.trans.txt"
    table.write_text(change(table.read_text()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "\n".join(text.splitlines()[1:]), "100-7-0000.flac has no transcript in"),
        (lambda text: text.replace(" HELLO WORLD", ""), "100-7-0000.flac has an empty transcript in"),
        (lambda text: text.replace("CAT", "CAT 22 É"), "outside the dictionary (A-Z, ' and space); '2' 'É'"),
        (lambda text: "", "3 of 7 audio files have no transcript; such as train-clean-100/100/7/100-7-0000.flac"),
    ],
)
def test_bad_transcripts(root, tmp_path, change, message):
    change_transcript(root, change)
    with pytest.raises(ElpError, match=rf"problems? in {root}: ") as caught:
        make(tmp_path).get_dataloader("train")
    assert all(part in str(caught.value) for part in message.split("; "))


def test_all_problems_are_counted(root, tmp_path):
    for table in (root / "train-clean-100").glob("*/*/*.trans.txt"):
        table.unlink()
    with pytest.raises(ElpError, match=r"7 problems .*: all 7 audio files have no transcript, such as") as caught:
        make(tmp_path).get_dataloader("train")
    assert "100-7-0000.flac" in str(caught.value), "an example"


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_incomplete_corpus_is_refused(root, tmp_path, split):
    """It is not scored on the rest."""
    table = tmp_path / "tables"
    expert = make(tmp_path)
    (part,) = expert.datarc[expert.split_name(split)]
    *others, last = lengths_of(root, part).items()
    path = root / last[0]
    path.unlink()
    with pytest.raises(ElpError, match=rf"has a transcript of {path.stem}, but {path.stem}\.flac is not in its folder"):
        make(tmp_path).get_dataloader(split)
    table.mkdir()
    lines = ["file_path,length", *(f"{file},{length}" for file, length in others)]
    (table / f"{part}.csv").write_text("\n".join(lines))
    make(tmp_path, datarc={"bucket_file": str(table), "dev-clean": [part]}).get_dataloader(split)  # the rows count


def test_a_chapter_without_any_audio_is_refused(root, tmp_path):
    for path in (root / "train-clean-100" / "101" / "7").glob("*.flac"):
        path.unlink()
    with pytest.raises(ElpError, match=r"3 utterances have a transcript, but their folders lack the \.flac") as caught:
        make(tmp_path).get_dataloader("train")
    assert str(caught.value).startswith("3 problems") and "101-7.trans.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (toy_corpora.tone(rate=8000), 8000, r"0000\.flac has 8000 samples a second instead of 16000"),
        (np.zeros((4000, 2)), 16000, r"0000\.flac has 2 channels instead of one"),
        (np.zeros(399), 16000, r"0000\.flac has 399 samples, fewer than the 400"),
    ],
)
def test_unusable_audio_is_reported_before_training(root, tmp_path, samples, rate, message):
    path = root / "train-clean-100" / "100" / "7" / "100-7-0000.flac"
    toy_corpora.write_wav(path, samples, rate)
    with pytest.raises(ElpError, match=message):
        make(tmp_path).get_dataloader("train")


def test_config_may_allow_conversion(root, tmp_path):
    folder = root / "dev-clean" / "200" / "7"
    toy_corpora.write_wav(folder / "200-7-0000.flac", toy_corpora.tone(seconds=0.9, rate=8000), 8000)
    toy_corpora.write_wav(folder / "200-7-0001.flac", np.stack([toy_corpora.tone()] * 2, axis=1))
    expert = make(tmp_path, datarc={"resample": True, "channels": "mean", "eval_batch_size": 8})
    ((wavs, _, names),) = list(expert.get_dataloader("dev"))
    lengths = dict(zip(names, map(len, wavs), strict=True))
    assert lengths["200-7-0000"] == 14400 and lengths["200-7-0001"] == 8000


def test_corrupt_flac(root, tmp_path):
    path = root / "dev-clean" / "200" / "7" / "200-7-0000.flac"
    content = path.read_bytes()
    path.write_bytes(b"not flac at all")
    with pytest.raises(ElpError, match=r"dev-clean/200/7/200-7-0000\.flac cannot be read"):
        make(tmp_path).get_dataloader("dev")
    path.write_bytes(content[: len(content) // 2])  # the header is complete, the samples are not
    with pytest.raises(ElpError, match=r"200-7-0000\.flac"):
        list(make(tmp_path).get_dataloader("dev"))


def test_missing_parts_and_wrong_settings(root, tmp_path):
    with pytest.raises(
        ElpError, match=r"test-other is missing, .*the folders here are: dev-clean, test-clean, train-clean-100"
    ):
        make(tmp_path).get_dataloader("test-other")
    with pytest.raises(ElpError, match=r"datarc\.dev-clean must be a list of folders"):
        make(tmp_path, datarc={"dev-clean": []}).get_dataloader("dev")
    with pytest.raises(ElpError, match="decodes greedily"):
        make(tmp_path, datarc={"decoder_args": {"decoder_type": "kenlm"}})
    with pytest.raises(ElpError, match="protocol must be one of superb, plain, but is 'le'"):
        make(tmp_path, datarc={"protocol": "le"})
    with pytest.raises(ElpError, match=r"character dictionary .* does not exist"):
        make(tmp_path, datarc={"dict_path": str(tmp_path / "nothing")})
    for modelrc, message in (
        ({"RNNs": {"dim": [4]}}, "one value per layer"),
        ({"RNNs": {"module": "RWKV"}}, "must be one of LSTM, GRU, but is "),
        ({"select": "Wav2Letter"}, "must be RNNs, but is "),
        ({"RNNs": {"total_rate": 100}}, "at least the upstream's rate of 320, but is 100"),
    ):
        with pytest.raises(ElpError, match=message):
            make(tmp_path, modelrc={"head": "superb", **modelrc})


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"train": 5}, r"datarc\.train must be a list of folders .*, but is 5"),
        ({"test-other": {"a": 1}}, r"datarc\.test-other must be a list of folders"),
        ({"zero_infinity": "no"}, r"datarc\.zero_infinity must be true or false, but is 'no'"),
        ({"bucket_file": 5}, r"datarc\.bucket_file must be a path.*, but is 5"),
        ({"dict_path": True}, r"datarc\.dict_path must be a path.*, but is True"),
        ({"decoder_args": "none"}, r"datarc\.decoder_args must be a mapping.*, but is 'none'"),
    ],
)
def test_data_options_of_the_wrong_type(root, tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, datarc=datarc)


@pytest.mark.parametrize(
    ("rnn", "message"),
    [
        ("abc", r"modelrc\.RNNs must be a mapping.*, but is 'abc'"),
        ({"dim": 8}, r"RNNs\.dim must be a list, such as \[8\], but is 8"),
        ({"dim": [8, "abc"]}, r"RNNs\.dim\[1\] must be a whole number.*, but is 'abc'"),
        ({"dropout": [0.2, "abc"]}, r"RNNs\.dropout\[1\] must be a number.*, but is 'abc'"),
        ({"layer_norm": [0, False]}, r"RNNs\.layer_norm\[0\] must be true or false, but is 0"),
        ({"bidirection": "no"}, r"RNNs\.bidirection must be true or false, but is 'no'"),
        ({"total_rate": "abc"}, r"RNNs\.total_rate must be a number.*, but is 'abc'"),
    ],
)
def test_model_options_of_the_wrong_type(root, tmp_path, rnn, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, modelrc={"head": "superb", "project_dim": 4, "RNNs": rnn})


def test_several_parts_make_one_split(root, tmp_path):
    expert = make(tmp_path, datarc={"dev-clean": ["dev-clean", "test-clean"], "eval_batch_size": 16})
    ((wavs, _, names),) = list(expert.get_dataloader("dev-clean"))
    assert len(names) == 6 and [len(wav) for wav in wavs] == sorted(map(len, wavs), reverse=True)
