"""Speaker verification: S3PRL's contract, parity with its task, dev set, trials, metrics, cache, wrong inputs."""

import itertools
import json
import multiprocessing
import pickle
import random
import re
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import upstream_elp
from downstream_heads.elp_sv import lengths as lengths_module
from downstream_heads.elp_sv.data import TrainUtterances
from downstream_heads.elp_sv.lengths import trimmed_length, trimmed_lengths
from downstream_heads.elp_sv.metrics import equal_error_rate, min_dcf, symmetric_norm
from downstream_heads.elp_sv.model import XVECTOR_MIN_FRAMES, MeanPooling, XVector
from downstream_heads.elp_sv.objectives import AmSoftmax
from downstream_heads.elp_sv.options import data_options, head_options
from downstream_heads.elp_sv.trials import hold_out, make_trials, read_trials
from tests import toy_corpora
from tests.task_tools import DIM, RATE, Scalars, fake_features, make_expert, packaged_config, run_split
from upstream_elp.base.errors import ElpError

SMALL = {"superb": {"input_dim": 16, "agg_dim": 20}, "linear": {"projector_dim": 16}}
HEADS = ("superb", "linear")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make six training speakers and three test speakers; tests must not write to them."""
    return toy_corpora.voxceleb1(tmp_path_factory.mktemp("data"), train=6, test=3)


@pytest.fixture(autouse=True)
def places(corpus, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(corpus.parent))
    monkeypatch.setenv("ELP_CACHE", str(corpus.parent / "cache"))


def make(tmp_path, head="superb", *, seed=1, modelrc=None, config=None, mode="train", **datarc):
    modelrc = {"head": head, **SMALL, **(modelrc or {})}
    return make_expert("elp_sv", tmp_path / "exp", seed=seed, datarc=datarc, modelrc=modelrc, config=config, mode=mode)


# ------------------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("head", HEADS)
def test_train_and_evaluate(head, tmp_path):
    random.seed(0)  # draws the crops
    expert = make(tmp_path, head, train_batch_size=4, max_timestep=16000)
    optimizer = torch.optim.Adam(expert.parameters(), lr=0.01)
    means = []
    for step in range(24):
        _, names, losses = run_split(expert, "train", step=step)
        assert names == []
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        means.append(torch.stack(losses).mean().item())
    assert min(means[-3:]) < 0.9 * means[0]
    for name, parameter in expert.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    scalars = Scalars()
    assert run_split(expert.eval(), "dev", step=12, logger=scalars)[1] == ["dev-best.ckpt"]
    assert run_split(expert, "dev", step=13)[1] == []  # an equal value is not better
    assert run_split(expert, "test", step=13)[1] == []  # nothing is chosen on test
    lines = [json.loads(line) for line in (tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["split"] == "train" and lines[0]["items"] == 16
    assert {line["protocol"] for line in lines} == {line["selected_on"] for line in lines} == {"dev"}
    test = lines[-1]
    assert test["split"] == "test" and test["items"] == 66 and test["chance"]["eer"] == 50
    assert 0 <= test["metrics"]["eer"] < 40 and 0 <= test["metrics"]["min_dcf"] <= 1
    assert scalars.values["elp_sv/dev-eer"][1] == 12


def test_superb_protocol_selects_on_test_and_says_so(tmp_path, capsys):
    runner = {**packaged_config("elp_sv")["runner"], "eval_dataloaders": ["test"]}
    expert = make(tmp_path, protocol="superb", config={**packaged_config("elp_sv"), "runner": runner}).eval()
    assert len(expert.corpus.speakers) == 6 and len(expert.dataset("train")) == 24
    assert "24 utterances of 6 speakers to train on, 0 speakers held out" in capsys.readouterr().out
    assert run_split(expert, "test")[1] == ["test-best.ckpt"]
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text())
    assert (line["protocol"], line["selected_on"]) == ("superb", "test")
    assert "has no dev set" not in capsys.readouterr().out


def test_superb_protocol_by_itself_suffices(tmp_path, capsys):
    """The packaged config evaluates dev, which that protocol does not have."""
    expert = make(tmp_path, protocol="superb").eval()
    expert.get_dataloader("train")
    assert "test is evaluated instead of dev (runner.eval_dataloaders)" in capsys.readouterr().out
    assert run_split(expert, "dev")[1] == ["test-best.ckpt"]
    assert json.loads((tmp_path / "exp" / "metrics.jsonl").read_text())["split"] == "test"
    assert not list((tmp_path / "exp").glob("dev*"))


def test_superb_protocol_has_no_dev_set_to_evaluate(tmp_path):
    """A request for dev by name must not return the results of test."""
    expert = make(tmp_path, protocol="superb", mode="evaluate")
    with pytest.raises(ElpError, match="has no dev set"):
        expert.get_dataloader("dev")


def test_files_have_the_submission_format(tmp_path, corpus):
    expert = make(tmp_path).eval()
    records, *_ = run_split(expert, "test")
    run_split(expert, "dev")
    listed = [line.split() for line in (corpus / "voxceleb1_test_v2.txt").read_text().splitlines()]
    for kind in ("predict", "truth"):
        rows = [line.split(" ") for line in (tmp_path / "exp" / f"test_{kind}.txt").read_text().splitlines()]
        assert [row[0] for row in rows] == [
            "_".join(path.replace("/", "-").removesuffix(".wav") for path in paths) for _, *paths in listed
        ]
        if kind == "truth":
            assert [row[1] for row in rows] == [label for label, *_ in listed]
        for row, (_, first, second) in zip(rows if kind == "predict" else [], listed, strict=False):
            assert float(row[1]) == pytest.approx(float(records[first] @ records[second]), abs=1e-6)
    dev = [line.split() for line in (tmp_path / "exp" / "dev_trials.txt").read_text().splitlines()]
    truth = [line.split() for line in (tmp_path / "exp" / "dev_truth.txt").read_text().splitlines()]
    assert [row[0] for row in dev] == [row[1] for row in truth] and len(dev) > 0


def test_items_are_plain_float32_of_the_right_length(tmp_path):
    expert = make(tmp_path, max_timestep=16000, train_batch_size=3)
    wavs, names, labels = next(iter(expert.get_dataloader("train")))
    assert len(wavs) == len(names) == len(labels) == 3
    for wav, name, label in zip(wavs, names, labels, strict=True):
        assert wav.dtype == np.float32 and wav.shape == (16000,)
        assert expert.corpus.speakers[label] == name.split("-")[0]
    wav, name = expert.dataset("test")[0]
    assert 39900 < len(wav) <= 40000
    assert name.count("/") == 2


def test_seed_gives_the_crops_but_not_the_split(tmp_path):
    def first_crop(seed):
        expert = make(tmp_path, max_timestep=8000)
        random.seed(seed)
        return expert.dataset("train")[0][0], expert.corpus.held_out

    (one, held_one), (again, _), (other, held_other) = first_crop(1), first_crop(1), first_crop(2)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert held_one == held_other


def test_crops_in_workers_follow_torch_s_seed(tmp_path):
    dataset = make(tmp_path, max_timestep=8000).dataset("train")

    def crops(seed):
        torch.manual_seed(seed)
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
        return [wav for wav, *_ in loader]

    one, again, other = crops(1), crops(1), crops(2)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_spawned_worker_unpickles(tmp_path):
    expert = make(tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        wav, name, label = pool.apply(_first_item, (pickle.dumps(expert.dataset("train")),))
    assert len(wav) > 32000 and expert.corpus.speakers[label] == name.split("-")[0]


def _first_item(data):
    return pickle.loads(data)[0]


def test_inference_on_one_file(tmp_path, corpus, capsys):
    expert = make(tmp_path).eval()
    wav = expert.load_audio(next((corpus / "test" / "wav").glob("*/*/*.wav")))
    vectors = expert.inference(fake_features([wav]), ["one"])
    assert torch.equal(vectors, expert.inference(fake_features([wav]), []))
    assert vectors.norm(dim=-1).item() == pytest.approx(1)
    line = (tmp_path / "exp" / "inference.txt").read_text().split()
    assert line[0] == "one" and np.allclose([float(value) for value in line[1:]], vectors[0])


def test_packaged_and_quick_configs_are_valid():
    import yaml

    from tests.task_tools import PACKAGE

    quick = yaml.safe_load((PACKAGE.parent / "recipes" / "tasks" / "sv_quick.yaml").read_text())
    for config in (packaged_config("elp_sv"), quick):
        options = data_options(config["downstream_expert"]["datarc"])
        assert options["root"] is None and options["protocol"] == "dev"
        head_options(config["downstream_expert"]["modelrc"])
    assert quick["runner"]["total_steps"] >= 120


# ------------------------------------------------------------------------------------- parity with S3PRL's own task


def stock_pair(*, speakers=7, batch_norm=False):
    """S3PRL's modules and ours, with the same weights."""
    from s3prl.downstream.sv_voxceleb1.model import AMSoftmaxLoss, Model

    hparams = {"agg_dim": 20, "dropout_p": 0.0, "batch_norm": batch_norm}
    torch.manual_seed(5)
    stock = Model(16, 20, "SP", "XVector", "UtteranceExtractor", hparams)
    stock_loss = AMSoftmaxLoss(16, speakers)
    torch.manual_seed(5)
    ours, loss = XVector(16, 20, batch_norm=batch_norm), AmSoftmax(16, speakers)
    for theirs, own in ((stock, ours), (stock_loss, loss)):
        assert list(theirs.state_dict()) == list(own.state_dict())
        for key, value in theirs.state_dict().items():
            assert torch.equal(value, own.state_dict()[key]), f"{key}: the same seed gives other weights"
    ours.load_state_dict(stock.state_dict())
    return stock, stock_loss, ours, loss


def stock_mask(frames_len):
    ones = [torch.ones(length - 14) for length in frames_len]
    return (1.0 - torch.nn.utils.rnn.pad_sequence(ones, batch_first=True)) * -100000.0


@pytest.mark.parametrize("batch_norm", [False, True])
@settings(max_examples=15, deadline=None)
@given(frames_len=st.lists(st.integers(XVECTOR_MIN_FRAMES, 60), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_xvector_is_s3prl_s_bit_for_bit(batch_norm, frames_len, seed):
    stock, stock_loss, ours, loss = stock_pair(batch_norm=batch_norm)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(frames_len), max(frames_len), 16, generator=generator)  # padding is not zero after Linear
    labels = torch.randint(7, (len(frames_len),), generator=generator)
    mask = stock_mask(frames_len)
    theirs, own = stock(hidden, mask), ours(hidden, torch.tensor(frames_len))
    assert torch.equal(theirs, own)
    stock.eval(), ours.eval()
    assert torch.equal(stock.inference(hidden, mask), ours.embed(hidden, torch.tensor(frames_len)))
    one, two = stock_loss(theirs, labels), loss(own, labels)
    assert torch.equal(one, two)
    one.backward(), two.backward()
    assert torch.allclose(stock_loss.W.grad, loss.W.grad, atol=1e-6)
    for (name, a), (_, b) in zip(stock.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6), name


def test_whole_expert_has_stock_keys_and_scores(tmp_path, corpus, monkeypatch):
    """S3PRL's expert loads our state and returns our test EER, with a dev split and with all speakers as in SUPERB."""
    pytest.importorskip("sox")
    upstream_elp.register()
    from s3prl.downstream.sv_voxceleb1 import dataset as stock_dataset
    from s3prl.downstream.sv_voxceleb1.expert import DownstreamExpert

    monkeypatch.setattr(stock_dataset, "__file__", str(tmp_path / "stock" / "dataset.py"))
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock_exp").mkdir()
    modelrc = {
        "module": "XVector",
        "input_dim": 16,
        "agg_module": "SP",
        "utter_module": "UtteranceExtractor",
        "module_config": {"XVector": {"agg_dim": 20, "dropout_p": 0.0, "batch_norm": False}},
        "ObjectiveLoss": "AMSoftmaxLoss",
        "LossConfig": {"AMSoftmaxLoss": {"s": 30.0, "m": 0.4}},
    }
    trials = str(corpus / "voxceleb1_test_v2.txt")
    datarc = {
        "vad_config": {"min_sec": 32000},
        "file_path": str(corpus),
        "train_meta_data": None,
        "dev_meta_data": trials,
        "test_meta_data": trials,
        "max_timestep": 16000,
        "train_batch_size": 3,
        "eval_batch_size": 1,
        "num_workers": 0,
    }
    stock = DownstreamExpert(DIM, {"datarc": datarc, "modelrc": modelrc}, tmp_path / "stock_exp")
    config = packaged_config("elp_sv")
    config["runner"]["eval_dataloaders"] = ["test"]
    config["downstream_expert"] = {"datarc": {**datarc, "protocol": "superb"}, "modelrc": modelrc}
    ours = make_expert("elp_sv", tmp_path / "exp", seed=2, config=config)
    ours.load_state_dict(stock.state_dict())

    random.seed(3)
    theirs = stock.train_dataset[4]
    random.seed(3)
    own = ours.dataset("train")[4]
    assert np.array_equal(theirs[0], own[0]) and theirs[1:] == own[1:]
    scalars = Scalars()
    stock.eval(), ours.eval()
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self, raising=False)
    records = defaultdict(list)
    for wavs, *others in stock.get_dataloader("test"):
        stock("test", fake_features(wavs), *others, records=records)
    stock.log_records("test", records=records, logger=scalars, global_step=1)
    run_split(ours, "test", logger=scalars)
    expected = 100 * float(scalars.values["sv-voxceleb1/test-EER"][0])
    assert scalars.values["elp_sv/test-eer"][0] == pytest.approx(expected, abs=1e-6)
    lines = {
        name: [line.split() for line in (tmp_path / name / "test_predict.txt").read_text().splitlines()]
        for name in ("stock_exp", "exp")
    }
    assert [row[0] for row in lines["exp"]] == [row[0] for row in lines["stock_exp"]]
    scores = [np.array([float(row[1]) for row in rows]) for rows in lines.values()]
    assert np.abs(scores[0] - scores[1]).max() < 1e-6


def test_mean_pooling_ignores_padding():
    hidden = torch.randn(2, 9, 4)
    out = MeanPooling()(hidden, torch.tensor([9, 5]))
    assert torch.allclose(out, torch.stack([hidden[0].mean(0), hidden[1, :5].mean(0)]), atol=1e-6)
    assert torch.equal(out, MeanPooling().embed(hidden, torch.tensor([9, 5])))


# -------------------------------------------------------------------------------------------------------- metrics


def plain_eer(labels, scores):
    """Go from strict to lax thresholds; where misses fall below false alarms, take the crossing of the segment."""
    targets, impostors = scores[labels == 1], scores[labels == 0]
    points = [(1.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        points.append((float((targets < threshold).mean()), float((impostors >= threshold).mean())))
    for (miss, alarm), (next_miss, next_alarm) in itertools.pairwise(points):
        if next_miss <= next_alarm:
            part = (miss - alarm) / ((miss - alarm) + (next_alarm - next_miss))
            return 100 * (alarm + part * (next_alarm - alarm))
    raise AssertionError("the curve must cross the diagonal")


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(-8, 8)), min_size=2, max_size=40).filter(
        lambda pairs: len({label for label, _ in pairs}) == 2
    )
)
def test_eer_is_the_plain_walk_s(pairs):
    labels, scores = np.array([p[0] for p in pairs]), np.array([p[1] / 8 for p in pairs])
    assert equal_error_rate(labels, scores) == pytest.approx(plain_eer(labels, scores), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_eer_is_s3prl_s(seed):
    from s3prl.downstream.sv_voxceleb1.utils import EER

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 500)
    scores = np.clip(0.3 * labels + 0.4 * rng.standard_normal(500), -1, 1)
    assert equal_error_rate(labels, scores) == pytest.approx(100 * EER(labels, scores)[0], abs=1e-9)


def test_metrics_by_hand():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    perfect, worst = labels.astype(float), 1.0 - labels
    one_each = np.array([0.9, 0.8, 0.7, 0.2, 0.75, 0.1, 0.05, 0.0])  # one miss and one false alarm of four
    assert equal_error_rate(labels, perfect) == 0
    assert equal_error_rate(labels, worst) == 100
    assert equal_error_rate(labels, np.zeros(8)) == 50
    assert equal_error_rate(labels, one_each) == pytest.approx(25)
    assert min_dcf(labels, perfect) == 0
    assert min_dcf(labels, worst) == min_dcf(labels, np.zeros(8)) == 1
    # accepting the two targets above 0.75 misses half: 0.5; the same for any small p_target
    assert min_dcf(labels, one_each, p_target=0.01) == pytest.approx(0.5)
    # p 0.5: accepting all targets lets one of four impostors in: 0.5 * 0.25 / 0.5
    assert min_dcf(labels, one_each, p_target=0.5) == pytest.approx(0.25)
    assert np.isnan(equal_error_rate(labels, np.full(8, np.nan)))
    assert np.isnan(min_dcf(labels, np.full(8, np.inf)))
    with pytest.raises(ValueError, match="two speakers"):
        equal_error_rate(np.ones(3), np.ones(3))


def test_symmetric_norm_by_hand():
    scores, against = np.array([0.5]), np.array([[0.0, 0.2], [0.1, 0.5]])
    expected = 0.5 * ((0.5 - 0.1) / np.std([0, 0.2], ddof=1) + (0.5 - 0.3) / np.std([0.1, 0.5], ddof=1))
    assert symmetric_norm(scores, against, np.array([0]), np.array([1])) == pytest.approx([expected])


def test_snorm_uses_training_utterances_only(tmp_path):
    expert = make(tmp_path, snorm=5).eval()
    cohort = expert.dataset("dev").cohort
    assert len(cohort) == 5 and not {path.parts[-3] for path in cohort} & set(expert.corpus.held_out)
    scalars = Scalars()
    run_split(expert, "test", logger=scalars)
    assert {"elp_sv/test-eer", "elp_sv/test-eer_raw"} <= set(scalars.values)
    plain = Scalars()
    run_split(make(tmp_path).eval(), "test", logger=plain)
    assert scalars.values["elp_sv/test-eer_raw"] == plain.values["elp_sv/test-eer"]
    scores = [float(line.split()[1]) for line in (tmp_path / "exp" / "test_predict.txt").read_text().splitlines()]
    assert len(scores) == 66


def test_diverged_scores_are_reported_and_never_best(tmp_path):
    expert = make(tmp_path).eval()
    with torch.no_grad():
        expert.connector.weight.fill_(float("nan"))
    assert run_split(expert, "dev")[1] == []
    assert json.loads((tmp_path / "exp" / "metrics.jsonl").read_text())["metrics"]["eer"] is None


# ------------------------------------------------------------------------------------------- dev speakers and trials


def test_dev_speakers_are_never_trained_on(tmp_path):
    expert = make(tmp_path, held_out=3)
    held_out = set(expert.corpus.held_out)
    assert len(held_out) == 3 and not held_out & set(expert.corpus.speakers)
    trained = {name.split("-")[0] for _, names, _ in expert.get_dataloader("train") for name in names}
    tried = {path.split("/")[0] for trial in expert.corpus.trials("dev") for path in trial[1:]}
    assert trained == set(expert.corpus.speakers) == set(expert.corpus.speakers) - tried
    assert tried == held_out
    assert expert.objective.W.shape[1] == 3


SPEAKERS = [f"id{number:05d}" for number in range(100)]


def test_hold_out_is_fixed_for_a_seed_and_independent_of_order():
    one = hold_out(SPEAKERS, 0.05, seed=0)
    assert len(one) == 5 and one == sorted(one)
    assert one == hold_out(SPEAKERS[::-1], 0.05, seed=0) == hold_out(SPEAKERS, 5, seed=0)
    assert one != hold_out(SPEAKERS, 0.05, seed=1)
    assert one == [
        "id00002",
        "id00005",
        "id00045",
        "id00049",
        "id00087",
    ]  # from the sha256 of "0/<speaker>", so always the same
    assert len(hold_out(SPEAKERS[:10], 0.05, seed=0)) == 2
    for amount in (0, -1, "5", True, 1, 99, 0.99, None):
        with pytest.raises(ElpError, match="held_out"):
            hold_out(SPEAKERS, amount, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    speakers=st.integers(2, 6),
    videos=st.integers(1, 3),
    takes=st.integers(2, 4),
    limit=st.integers(2, 60),
    seed=st.integers(0, 99),
)
def test_trials_are_balanced_different_and_repeatable(speakers, videos, takes, limit, seed):
    names = [f"{s}/v{v}/{t}.wav" for s in SPEAKERS[:speakers] for v in range(videos) for t in range(takes)]
    trials = make_trials(names, per_speaker=6, limit=limit, seed=seed)
    assert trials == make_trials(names[::-1], per_speaker=6, limit=limit, seed=seed)
    assert len(trials) <= limit
    assert sum(trial.label for trial in trials) * 2 == len(trials) > 0
    assert len({frozenset(trial[1:]) for trial in trials}) == len(trials)
    for trial in trials:
        (one, video, _), (two, other_video, _) = trial.first.split("/"), trial.second.split("/")
        assert trial.label == (one == two) and trial.first != trial.second
        if trial.label and videos * takes <= 6 and videos > 1:
            assert video != other_video


def test_many_trials_are_drawn_without_listing_all_pairs():
    names = [f"{speaker}/v{video}/0.wav" for speaker in SPEAKERS for video in range(10)]
    trials = make_trials(names, per_speaker=10, limit=2000, seed=0)
    assert len(trials) == 2000
    targets = {trial.first.split("/")[0] for trial in trials if trial.label}
    assert len(targets) == 100  # every speaker takes part


def test_trials_need_material():
    with pytest.raises(ElpError, match="too few utterances"):
        make_trials(["a/v/1.wav", "b/v/1.wav"], per_speaker=5, limit=10, seed=0)
    with pytest.raises(ElpError, match="too few utterances"):
        make_trials(["a/v/1.wav", "a/v/2.wav"], per_speaker=5, limit=10, seed=0)


# ---------------------------------------------------------------------------------------------------------- cache


def counted(monkeypatch):
    calls = []

    def count(path, effects):
        calls.append(path)
        return trimmed_length(path, effects)

    monkeypatch.setattr(lengths_module, "trimmed_length", count)
    return calls


def test_cache_is_used_and_keyed_by_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    calls = counted(monkeypatch)
    folders = [toy_corpora.voxceleb1(tmp_path / name, train=2, test=1) / "dev" / "wav" for name in ("one", "two")]
    names = sorted(path.relative_to(folders[0]).as_posix() for path in folders[0].glob("*/*/*.wav"))
    toy_corpora.write_wav(folders[1] / names[3], toy_corpora.tone(seconds=1.0))
    first = trimmed_lengths(folders[0], names, n_jobs=2)
    assert first.dtype == np.int64 and first.tolist() == [trimmed_length(folders[0] / name) for name in names]
    assert first.min() > 39900 and len(calls) == len(names)
    assert np.array_equal(trimmed_lengths(folders[0], names), first) and len(calls) == len(names)
    second = trimmed_lengths(folders[1], names)  # the same names, another corpus
    assert 15900 < second[3] <= 16000 and len(calls) == 2 * len(names)
    toy_corpora.write_wav(folders[0] / names[0], toy_corpora.tone(seconds=0.8))  # a file changes
    assert 12700 < trimmed_lengths(folders[0], names)[0] <= 12800
    assert trimmed_lengths(folders[0], names[1:]).size == len(names) - 1
    for entry in (tmp_path / "cache" / "sv_lengths").glob("*.npz"):  # damaged entries are replaced
        entry.write_bytes(entry.read_bytes()[:50])
    assert np.array_equal(trimmed_lengths(folders[1], names), second)
    assert not list((tmp_path / "cache" / "sv_lengths").glob(".*"))


def test_cache_survives_a_race_and_a_read_only_place(tmp_path, monkeypatch, corpus):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    folder = corpus / "dev" / "wav"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.wav"))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.starmap(trimmed_lengths, [(folder, names)] * 3)
    assert all(np.array_equal(result, results[0]) for result in results)
    assert len(list((tmp_path / "cache" / "sv_lengths").glob("*.npz"))) == 1
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "file"))
    assert np.array_equal(trimmed_lengths(folder, names), results[0])


def test_unreadable_files_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    folder = toy_corpora.voxceleb1(tmp_path / "data", train=2, test=1) / "dev" / "wav"
    paths = sorted(folder.glob("*/*/*.wav"))
    for path in paths[:2]:
        path.write_bytes(b"damaged")
    with pytest.raises(ElpError) as caught:
        trimmed_lengths(folder, [path.relative_to(folder).as_posix() for path in paths])
    assert all(str(path) in str(caught.value) for path in paths[:2])
    calls = counted(monkeypatch)
    for path in paths[:2]:
        toy_corpora.write_wav(path, toy_corpora.tone(seconds=1.0))
    trimmed_lengths(folder, [path.relative_to(folder).as_posix() for path in paths])
    assert sorted(calls) == paths[:2], "what could be read is kept"


# --------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"protocol": "test"}, "must be one of dev, superb, but is "),
        ({"too_short": "drop"}, "must be one of error, untrimmed, but is "),
        ({"train_batchsize": 3}, "did you mean train_batch_size"),
        ({"train_batch_size": 0}, "at least 1"),
        ({"p_target": 1.0}, "p_target must be a number above 0 and below 1, but is 1"),
        ({"snorm": 1}, "snorm must be 0 .* or at least 2"),
        ({"held_out": 5}, "at least 2 must remain for training"),
        ({"max_timestep": 5000}, "max_timestep allows training utterances of 5000 samples"),
        ({"min_samples": 5000, "vad_config": {"min_sec": 4000}}, "mean the same"),
        ({"root": "nowhere"}, "no such folder"),
    ],
)
def test_wrong_data_options(tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, **datarc)


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"root": 5}, r"datarc\.root must be a path.*, but is 5"),
        ({"trials": [1]}, r"datarc\.trials must be a path.*, but is \[1\]"),
        ({"held_out": "abc"}, r"datarc\.held_out must be a number.*, but is 'abc'"),
        ({"split_seed": "abc"}, r"datarc\.split_seed must be a whole number.*, but is 'abc'"),
        ({"max_timestep": "abc"}, r"datarc\.max_timestep must be a whole number.*, but is 'abc'"),
        ({"n_jobs": 1.5}, r"datarc\.n_jobs must be a whole number.*, but is 1\.5"),
        ({"vad_config": 3}, r"datarc\.vad_config must be a mapping.*, but is 3"),
        ({"p_target": "abc"}, r"datarc\.p_target must be a number.*, but is 'abc'"),
    ],
)
def test_data_options_of_the_wrong_type(tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, **datarc)


@pytest.mark.parametrize(
    ("modelrc", "message"),
    [
        ({"superb": 5}, r"modelrc\.superb must be a mapping.*, but is 5"),
        ({"superb": {"s": "abc"}}, r"modelrc\.superb\.s must be a number.*, but is 'abc'"),
        ({"superb": {"m": None}}, r"modelrc\.superb\.m must be a number.*, but is None"),
        ({"superb": {"dropout_p": 1.5}}, r"superb\.dropout_p must be a number of at least 0 and below 1, but is 1\.5"),
        ({"superb": {"batch_norm": "false"}}, r"superb\.batch_norm must be true or false, but is 'false'"),
        ({"module_config": 3}, r"modelrc\.module_config must be a mapping.*, but is 3"),
        ({"LossConfig": {"AMSoftmaxLoss": 3}}, r"LossConfig\.AMSoftmaxLoss must be a mapping.*, but is 3"),
    ],
)
def test_model_options_of_the_wrong_type(tmp_path, modelrc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, modelrc=modelrc)


def test_wrong_model_options(tmp_path):
    for modelrc, message in (
        ({"head": "resnet"}, "must be one of superb, linear, ecapa, mhfa, but is "),
        ({"superb": {"dim": 3}}, r"modelrc\.superb\.dim"),
        ({"agg_module": "ASP"}, "must be SP, but is "),
        ({"projector": 3}, r"unknown config key downstream_expert\.modelrc\.projector"),
    ):
        with pytest.raises(ElpError, match=message):
            make(tmp_path, modelrc=modelrc)


def test_wrong_trial_lists(tmp_path, corpus):
    """Every fault is one sentence, and the data set refuses what the check of the data reports."""
    audio = corpus / "test" / "wav"
    there = [path.relative_to(audio).as_posix() for path in sorted(audio.glob("*/*/*.wav"))]
    one, two = there[:2]
    _, (problem,) = read_trials(tmp_path / "none.txt", corpus, there=there)
    assert "openslr.org" in problem.text and problem.kind == "layout"
    path = tmp_path / "trials.txt"
    for text, message in (
        (f"1 {one}\n", "line 1 is not a trial"),
        (f"1 {one} {two}\nyes {one} {two}\n", "line 2 is not a trial"),
        (f"1 {one} {two}\n", "must contain trials of the same speaker and of different speakers"),
        ("", "must contain trials of the same speaker and of different speakers"),
        (f"1 {one} {two}\n0 {one} id9/v/00009.wav\n", r"id9/v/00009\.wav is missing, but needed by 1 trial"),
        (f"0 {one} {two}\n", "label contradicts the speakers"),
    ):
        path.write_text(text)
        _, problems = read_trials(path, corpus, there=there)
        assert any(re.search(message, problem.text) for problem in problems)
        with pytest.raises(ElpError, match=message):
            make(tmp_path, trials=str(path)).dataset("test")


def test_corpus_without_speakers_or_audio(tmp_path):
    root = tmp_path / "VoxCeleb1"
    (root / "dev" / "wav").mkdir(parents=True)
    with pytest.raises(ElpError, match=r"dev/wav is missing or contains no \.wav files"):
        make(tmp_path, root=str(root))
    for number in range(4):
        (root / "dev" / "wav" / f"id{number}").mkdir()
    with pytest.raises(ElpError, match=r"dev/wav is missing or contains no \.wav files"):
        make(tmp_path, root=str(root)).get_dataloader("train")
    toy_corpora.write_wav(root / "dev" / "wav" / "id0" / "v" / "00001.wav", toy_corpora.tone())
    for protocol in ("dev", "superb"):
        with pytest.raises(ElpError, match="contains 1 speaker, but at least 2 are needed"):
            make(tmp_path, root=str(root), protocol=protocol)


def test_short_training_audio_is_counted_and_empty_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = toy_corpora.voxceleb1(tmp_path / "data", train=4, test=2)
    assert len(make(tmp_path, root=str(root)).dataset("train")) == 8 and "skipped" not in capsys.readouterr().out
    paths = sorted((root / "dev" / "wav").glob("*/*/*.wav"))
    toy_corpora.write_wav(paths[0], toy_corpora.tone(seconds=1.0))
    toy_corpora.write_wav(paths[-1], np.zeros(40000, dtype=np.float32))  # silence is not damage
    make(tmp_path, root=str(root)).get_dataloader("train")
    assert capsys.readouterr().out.count("2 of 16 utterances below") == 1
    toy_corpora.write_wav(paths[1], np.zeros(0, dtype=np.float32))
    with pytest.raises(ElpError, match=rf"1 file has 0 samples below .*: .*{paths[1].parent.name}/{paths[1].name};"):
        make(tmp_path, root=str(root)).get_dataloader("train")


def test_all_training_audio_too_short(tmp_path):
    with pytest.raises(ElpError, match="no training utterance"):
        make(tmp_path, min_samples=50000).get_dataloader("train")


def test_trial_utterances_that_trimming_empties(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = toy_corpora.voxceleb1(tmp_path / "data", train=4, test=2)
    silent = sorted((root / "test" / "wav").glob("*/*/*.wav"))[0]
    toy_corpora.write_wav(silent, np.zeros(30000, dtype=np.float32))
    with pytest.raises(ElpError, match=rf"1 utterance has .*{silent.name} \(0\).*too_short: untrimmed"):
        make(tmp_path, root=str(root)).get_dataloader("test")
    expert = make(tmp_path, root=str(root), too_short="untrimmed").eval()
    sizes = sorted(len(wav) for wavs, _ in expert.get_dataloader("test") for wav in wavs)
    assert sizes[0] == 30000 and sizes[1] > 39900
    run_split(expert, "test")
    toy_corpora.write_wav(silent, np.zeros(300, dtype=np.float32))
    with pytest.raises(ElpError, match=f"{silent.name} has 300 samples"):
        list(expert.get_dataloader("test"))


def test_too_few_frames_name_the_utterance(tmp_path):
    expert = make(tmp_path)
    features = [torch.randn(40, DIM), torch.randn(XVECTOR_MIN_FRAMES - 1, DIM)]
    with pytest.raises(ElpError, match="two has 15 frames, fewer than the 16"):
        expert("test", features, ["one", "two"], records=defaultdict(list))


def test_wrong_rate_and_channels_are_converted_as_the_recipe_does(tmp_path):
    wav = toy_corpora.tone(seconds=2.5, rate=48000)
    toy_corpora.write_wav(tmp_path / "id1" / "v" / "1.wav", np.stack([wav, wav], axis=1), rate=48000)
    out, name, label = TrainUtterances(tmp_path, ["id1/v/1.wav"], ["id0", "id1"], crop=None, lengths=[0])[0]
    assert out.ndim == 1 and abs(len(out) - 40000) < 400 and (name, label) == ("id1-v-1", 1)


def test_rate_of_upstream_counts_for_the_shortest_utterance(tmp_path):
    assert make(tmp_path).least == 400 + 15 * RATE
    assert make(tmp_path, "linear").least == 400
