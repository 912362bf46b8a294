"""Speaker verification beyond SUPERB: crops, effects, trial lists, s-norm, AS-norm, ECAPA-TDNN, MHFA, AAM-softmax."""

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from downstream_heads.elp_sv.data import read_utterance
from downstream_heads.elp_sv.ecapa import SQUEEZED, Ecapa
from downstream_heads.elp_sv.embedding import Embedder
from downstream_heads.elp_sv.metrics import symmetric_norm
from downstream_heads.elp_sv.mhfa import Mhfa
from downstream_heads.elp_sv.objectives import AamSoftmax
from downstream_heads.elp_sv.options import HEAD_DEFAULTS, head_options, objective_options
from downstream_heads.elp_sv.predictor import Predictor
from downstream_heads.elp_sv.trials import trials_path
from tests import toy_corpora
from tests.task_runs import flags, options
from tests.task_tools import DIM, RATE, Scalars, fake_features, make_expert, run_split
from tests.toys import tiny_backbone
from upstream_elp.audio.reading import load_audio
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run

SMALL = {
    "superb": {"input_dim": 16, "agg_dim": 20},
    "linear": {"projector_dim": 16},
    "ecapa": {"channels": 16, "scale": 4, "attention_dim": 6, "agg_dim": 20, "embedding_dim": 10},
    "mhfa": {"heads": 3, "compression_dim": 8, "embedding_dim": 10},
}
NETWORKS = {"ecapa": Ecapa, "mhfa": Mhfa}
SHORT = {"max_timestep": 16000, "train_batch_size": 4}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make six training speakers and three test speakers; tests must not write to them."""
    return toy_corpora.voxceleb1(tmp_path_factory.mktemp("data"), train=6, test=3)


@pytest.fixture(autouse=True)
def places(corpus, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(corpus.parent))
    monkeypatch.setenv("ELP_CACHE", str(corpus.parent / "cache"))


def make(tmp_path, head="linear", *, modelrc=None, **datarc):
    modelrc = {"head": head, **SMALL, **(modelrc or {})}
    return make_expert("elp_sv", tmp_path / "exp", datarc={**SHORT, **datarc}, modelrc=modelrc)


def network(head, *, seed=0):
    torch.manual_seed(seed)
    return NETWORKS[head](DIM, **SMALL[head])


# ------------------------------------------------------------------------------------------------ crops and effects


def test_crop_at_the_start(tmp_path, corpus):
    expert = make(tmp_path, crop_at="start", effects="plain", min_samples=400)
    data = expert.dataset("train")
    assert expert.fixed_waves("train") and not make(tmp_path).fixed_waves("train")
    random.seed(0)
    before = random.getstate()
    for position in (0, 3):
        wav, *_ = data[position]
        whole = load_audio(corpus / "dev" / "wav" / data.names[position]).numpy()
        assert np.abs(wav - whole[:16000]).max() < 1e-6
    assert random.getstate() == before


def test_plain_effects_keep_level_and_pauses(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = toy_corpora.voxceleb1(tmp_path / "data", train=4, test=2)
    path = sorted((root / "dev" / "wav").glob("*/*/*.wav"))[0]
    tone = toy_corpora.tone(seconds=1.0)
    wav = np.concatenate([tone, np.zeros(24000, dtype=np.float32), tone])
    toy_corpora.write_wav(path, wav)
    plain = read_utterance(path, effects="plain")
    assert len(plain) == len(wav) and np.abs(plain - wav).max() < 1e-4
    assert len(read_utterance(path)) < len(wav) - 20000
    name = path.relative_to(root / "dev" / "wav").as_posix()
    lengths = {}
    for effects in ("plain", "superb"):
        data = make(tmp_path, root=str(root), effects=effects, max_timestep=None, protocol="superb").dataset("train")
        lengths[effects] = dict(zip(data.names, data.lengths(), strict=True))[name]
    assert lengths["plain"] == len(wav) > lengths["superb"] + 20000


def test_short_trial_utterances_without_trimming(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = toy_corpora.voxceleb1(tmp_path / "data", train=4, test=2)
    path = sorted((root / "test" / "wav").glob("*/*/*.wav"))[0]
    toy_corpora.write_wav(path, np.zeros(3000, dtype=np.float32))
    assert len(make(tmp_path, root=str(root), effects="plain").dataset("test")[0][0]) == 3000
    toy_corpora.write_wav(path, np.zeros(300, dtype=np.float32))
    with pytest.raises(ElpError, match=r"1 utterance has fewer samples than the 400 .* \(300\); remove these trials"):
        make(tmp_path, root=str(root), effects="plain").dataset("test")


def test_a_published_list_is_found_in_the_corpus(tmp_path, monkeypatch):
    assert trials_path(tmp_path, "veri_test2.txt") == tmp_path / "veri_test2.txt"
    assert str(trials_path(tmp_path, "other.txt")) == "other.txt"
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "veri_test2.txt").write_text("")
    assert trials_path(tmp_path, "veri_test2.txt") == tmp_path / "meta" / "veri_test2.txt"
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "veri_test2.txt").write_text("")
    assert str(trials_path(tmp_path, "veri_test2.txt")) == "veri_test2.txt"


# ------------------------------------------------------------------------------------------------- batches of seconds


def test_batches_of_seconds_hold_no_more(tmp_path):
    """As in the L-E reference, padding counts; 384 s there, 2.5 s of crops of 1 s here."""
    expert = make(tmp_path, train_batch_seconds=2.5)
    batches = list(expert.get_dataloader("train"))
    sizes = [[len(wav) for wav in wavs] for wavs, *_ in batches]
    assert all(len(size) * max(size) <= 2.5 * 16000 for size in sizes)
    assert sum(map(len, sizes)) == len(expert.dataset("train"))
    assert max(map(len, sizes)) == 2


# ------------------------------------------------------------------------------------------------ score normalisation


def plain_norm(score, one, two, top=None):
    """S-norm of one trial by its formula: the mean of both sides' z-scores."""
    sides = []
    for cohort in (one, two):
        kept = sorted(cohort, reverse=True)[:top]
        mean = sum(kept) / len(kept)
        variance = sum((value - mean) ** 2 for value in kept) / (len(kept) - 1)
        sides.append((score - mean) / math.sqrt(variance))
    return sum(sides) / 2


@pytest.mark.parametrize("top", [None, 2, 5, 9])
def test_norms_against_their_formula(top):
    rng = np.random.default_rng(0)
    scores, against = rng.normal(size=20), rng.normal(size=(6, 9))
    first, second = rng.integers(6, size=20), rng.integers(6, size=20)
    found = symmetric_norm(scores, against, first, second, top=top)
    wanted = [plain_norm(s, against[a], against[b], top) for s, a, b in zip(scores, first, second, strict=True)]
    assert np.allclose(found, wanted, rtol=1e-12)
    assert (top in (None, 9)) == np.allclose(found, symmetric_norm(scores, against, first, second))


def test_as_norm_of_a_run(tmp_path):
    expert = make(tmp_path, snorm=8, snorm_top=3).eval()
    records, *_ = run_split(expert, "test")
    trials = expert.trials["test"]
    cohort = [records[f"cohort:{place}"] for place in range(8)]
    rows = (tmp_path / "exp" / "test_predict.txt").read_text().splitlines()
    for trial, row in zip(trials, rows, strict=True):
        one, two = records[trial.first], records[trial.second]
        against = [[float(side @ other) for other in cohort] for side in (one, two)]
        assert float(row.split()[1]) == pytest.approx(plain_norm(float(one @ two), *against, top=3), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("head", SMALL)
def test_the_cohort_of_the_last_epoch(head, tmp_path):
    """It has each drawn utterance's embedding from the last time it was trained on, in train mode."""
    expert = make(tmp_path, head, snorm=10, snorm_cohort="last_epoch", crop_at="start")
    kept = {}
    for epoch in range(2):
        for wavs, names, labels in expert.get_dataloader("train", epoch=epoch):
            features = fake_features(wavs)
            with torch.no_grad():
                for parameter in expert.model.parameters():
                    parameter.add_(0.01)
                hidden, frames_len = expert.hidden(features, names)
            before = {key: value.clone() for key, value in expert.state_dict().items() if "running" in key}
            vectors = F.normalize(expert.model.embed(hidden, frames_len), dim=-1).detach()
            expert.load_state_dict(before, strict=False)  # looking must not change batch norm's means
            expert("train", features, names, labels)
            kept |= dict(zip(names, vectors, strict=True))
    cohort = expert.cohort
    assert cohort.seen.all() and len(cohort.known()) == 10
    places = {place: name for name, own in cohort._places.items() for place in own}
    assert sorted(places) == list(range(10)) and set(places.values()) <= set(kept)
    for place, name in places.items():
        assert torch.allclose(cohort.vectors[place], kept[name], atol=1e-6)
    expert.eval()
    scalars = Scalars()
    records, *_ = run_split(expert, "test", logger=scalars)
    assert not any(name.startswith("cohort") for name in records)  # nothing is embedded again
    assert "elp_sv/test-eer_raw" in scalars.values
    line = json.loads((tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["cohort"] == 10


def test_without_training_there_is_no_cohort_of_it(tmp_path, capsys):
    expert = make(tmp_path, snorm=10, snorm_cohort="last_epoch").eval()
    scalars = Scalars()
    run_split(expert, "test", logger=scalars)
    assert "elp_sv/test-eer_raw" not in scalars.values
    assert "no s-norm yet, as its cohort has fewer than 2 embeddings" in capsys.readouterr().out


def test_the_cohort_is_drawn_with_replacement_and_not_by_the_seed(tmp_path):
    one, two = (make(tmp_path, snorm=40, snorm_cohort="last_epoch", split_seed=seed) for seed in (0, 1))
    for expert in (one, two):
        expert.dataset("train")
    assert one.cohort._places != two.cohort._places
    assert sum(map(len, one.cohort._places.values())) == 40 > len(one.cohort._places)


# --------------------------------------------------------------------------------------------------------- the heads


def sizes_of(head):
    """The number of parameters, term by term."""
    options = HEAD_DEFAULTS[head]
    if head == "mhfa":
        width, heads, out = (options[key] for key in ("compression_dim", "heads", "embedding_dim"))
        return 2 * 768 * width + width + width * heads + heads * width * out + out
    channels, scale, agg = options["channels"], options["scale"], options["agg_dim"]
    width, attention, out = channels // scale, options["attention_dim"], options["embedding_dim"]
    layer = lambda ins, outs, size=1: ins * outs * size + outs + 2 * outs  # noqa: E731 - convolution and batch norm
    squeeze = 2 * channels * SQUEEZED + SQUEEZED + channels
    block = 2 * layer(channels, channels) + (scale - 1) * layer(width, width, 3) + squeeze
    pooling = 3 * agg * attention + attention + attention * agg
    end = 2 * (2 * agg) + 2 * agg * out + 2 * out
    return layer(768, channels, 5) + 3 * block + (3 * channels * agg + agg) + pooling + end


@pytest.mark.parametrize("head", NETWORKS)
def test_number_of_parameters(head):
    made = NETWORKS[head](768, **HEAD_DEFAULTS[head])
    assert sum(p.numel() for p in made.parameters()) == sizes_of(head)


def test_sizes_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    for head in HEAD_DEFAULTS:
        made = Embedder.__new__(Embedder)
        made.upstream_dim = 768
        width = made.build_embedder(*head_options({"head": head}))
        size = sum(p.numel() for part in (made.connector, made.model) for p in part.parameters())
        assert re.search(rf"\| `{head}`.* \| {width} \| {size:,} \|", text)


#: what a norm or a softmax after it takes away, so that its gradient is zero by mathematics
WITHOUT_GRADIENT = {"pooled_norm.bias"}


@pytest.mark.parametrize("head", NETWORKS)
def test_every_parameter_has_a_gradient(head):
    made = network(head).train()
    hidden = torch.randn(4, 30, DIM)
    loss = AamSoftmax(10, 5, s=30.0, m=0.2)(made(hidden, torch.tensor([30, 17, 9, 22])), torch.tensor([0, 1, 2, 4]))
    loss.backward()
    for name, parameter in made.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad.abs().max() > 1e-6) == (name not in WITHOUT_GRADIENT), name


@pytest.mark.parametrize("head", NETWORKS)
def test_padding_changes_nothing(head):
    """In evaluation, an utterance has the same embedding by itself and in a batch, whatever the padding contains."""
    made = network(head).eval()
    for module in made.modules():  # statistics that are not 0 and 1
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    frames_len = [40, 1, 13, 27]
    rows = [torch.randn(length, DIM) for length in frames_len]
    padded = torch.full((4, 47, DIM), 1e3)
    for row, feature in zip(padded, rows, strict=True):
        row[: len(feature)] = feature
    together = made.embed(padded, torch.tensor(frames_len))
    assert torch.isfinite(together).all()
    for row, feature in zip(together, rows, strict=True):
        single = made.embed(feature.unsqueeze(0), torch.tensor([len(feature)]))[0]
        assert torch.allclose(row, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", NETWORKS)
def test_padding_changes_nothing_in_training(head):
    """Batch norm counts only the utterances' own frames: more padding gives the same outputs and statistics."""
    found = []
    for extra in (0, 25):
        made = network(head).train()
        hidden = torch.randn(3, 20, DIM, generator=torch.Generator().manual_seed(1))
        frames_len = torch.tensor([20, 11, 6])
        hidden = F.pad(hidden, (0, 0, 0, extra), value=7.0)
        found.append((made(hidden, frames_len), made.state_dict()))
    (one, states), (two, others) = found
    assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)
    assert all(torch.allclose(states[key], others[key], rtol=1e-4, atol=1e-5) for key in states)


def test_ecapa_trains_on_a_single_utterance():
    """A batch of seconds may hold one; its pooled vector has no variance over the batch."""
    made = network("ecapa").train()
    out = made(torch.randn(1, 30, DIM), torch.tensor([30]))
    out.sum().backward()
    assert torch.isfinite(out).all() and made.pooled_norm.num_batches_tracked == 0


def test_attentive_statistics_of_equal_scores_are_plain_ones():
    made = network("ecapa").eval()
    nn.init.zeros_(made.pooling.scores.weight)
    frames = torch.randn(2, 20, 9)
    inside = torch.arange(9) < torch.tensor([[9], [4]])
    pooled = made.pooling(frames, inside)
    for row, frame, length in zip(pooled, frames, (9, 4), strict=True):
        own = frame[:, :length]
        assert torch.allclose(row, torch.cat([own.mean(1), own.std(1, unbiased=False)]), atol=1e-5)


def test_mhfa_of_equal_scores_is_a_mean():
    made = network("mhfa").eval()
    nn.init.zeros_(made.scores.weight)
    hidden = torch.randn(1, 9, DIM)
    mean = made.values(hidden[:, :5]).mean(1)
    assert torch.allclose(made(hidden, torch.tensor([5])), made.embedding(mean.repeat(1, 3)), atol=1e-6)


@pytest.mark.parametrize("head", NETWORKS)
def test_a_head_learns_and_is_used(head, tmp_path):
    expert = make(tmp_path, head)
    assert expert.least == 400 and isinstance(expert.connector, nn.Identity)
    optimizer = torch.optim.Adam(expert.parameters(), lr=0.01)
    means = []
    for step in range(12):
        losses = run_split(expert, "train", step=step)[2]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        means.append(torch.stack(losses).mean().item())
    assert means[-1] < 0.7 * means[0]
    scalars = Scalars()
    assert run_split(expert.eval(), "dev", logger=scalars)[1] == ["dev-best.ckpt"]
    audio = {"effects": "plain"}
    predictor = Predictor(
        upstream_dim=DIM, upstream_rate=RATE, modelrc=expert.modelrc, audio=audio, labels=None, threshold=None
    ).eval()
    predictor.load_state_dict(Predictor.trained_tensors(expert.state_dict()))
    wavs = [torch.randn(9000), torch.randn(16000)]
    (one, two), names = predictor.answers(fake_features(wavs), ["a", "b"]), ["a", "b"]
    assert torch.equal(torch.stack([one.embedding, two.embedding]), expert.embed(fake_features(wavs), names))


# ------------------------------------------------------------------------------------------------------- AAM-softmax


def plain_aam(vectors, weights, labels, *, s, m):
    """The loss through angles, one utterance after the other."""
    losses = []
    for vector, label in zip(vectors.double(), labels.tolist(), strict=True):
        cosines = [float(F.cosine_similarity(vector, column.double(), dim=0)) for column in weights.t()]
        angle = math.acos(cosines[label])
        cosines[label] = math.cos(angle + m) if angle + m < math.pi else cosines[label] - m * math.sin(m)
        losses.append(-s * cosines[label] + math.log(sum(math.exp(s * value) for value in cosines)))
    return sum(losses) / len(losses)


def test_aam_softmax_against_angles():
    torch.manual_seed(0)
    loss = AamSoftmax(6, 4, s=20.0, m=0.3)
    vectors, labels = torch.randn(8, 6), torch.randint(4, (8,))
    with torch.no_grad():
        vectors[0] = -loss.W[:, labels[0]] + 1e-3  # nearly opposite, where the angle and the margin exceed pi
    assert loss(vectors, labels).item() == pytest.approx(plain_aam(vectors, loss.W, labels, s=20.0, m=0.3), rel=1e-4)
    loss.m = 0.0
    cosines = F.normalize(vectors) @ F.normalize(loss.W, dim=0)
    assert float(loss(vectors, labels)) == pytest.approx(float(F.cross_entropy(20 * cosines, labels)), rel=1e-5)


def test_the_margin_rises():
    loss = AamSoftmax(6, 4, s=30.0, m=0.4, rise_from=2, rise_to=6)
    margins, batch = [], (torch.randn(3, 6), torch.tensor([0, 1, 3]))
    for _ in range(8):
        margins.append(loss.margin())
        loss(*batch)
    assert margins == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.4])
    again = AamSoftmax(6, 4, s=30.0, m=0.4, rise_from=2, rise_to=6)
    again.load_state_dict({**loss.state_dict(), "batches": torch.tensor(4)})
    assert again.margin() == pytest.approx(0.2)
    again.eval()(*batch)
    assert again.margin() == pytest.approx(0.2)  # only training counts
    assert AamSoftmax(6, 4, s=30.0, m=0.4).margin() == 0.4


def test_losses_of_the_heads():
    own = {head: objective_options({"head": head}) for head in HEAD_DEFAULTS}
    assert {head: name for head, (name, _) in own.items()} == {
        "superb": "am_softmax",
        "linear": "softmax",
        "ecapa": "aam_softmax",
        "mhfa": "aam_softmax",
    }
    assert own["superb"][1] == {"s": 30.0, "m": 0.4} and own["linear"][1] == {}
    name, margin = objective_options({"objective": "aam_softmax", "aam_softmax": {"m": 0.1}})
    assert name == "aam_softmax" and margin == {"s": 30.0, "m": 0.1, "rise_from": 0, "rise_to": 0}


# -------------------------------------------------------------------------------------------------------- whole runs


def started(data, exp, head, *more):
    values = options("elp_sv", head, total_steps=4, eval_step=4)[1]
    small = {f"{head}.{key}": value for key, value in SMALL[head].items()}
    chosen = {f"config.downstream_expert.modelrc.{key}": value for key, value in small.items()}
    text = ",,".join([values, *(f"{key}={value}" for key, value in chosen.items()), *more])
    upstream = ["-u", "elp_local", "-k", str(tiny_backbone())]
    return run(["-m", "train", *upstream, *flags("elp_sv", data, exp), "-o", text])


DATARC, MODELRC = "config.downstream_expert.datarc", "config.downstream_expert.modelrc"
PAPER = [
    f"{DATARC}.{key}"
    for key in ("crop_at=start", "effects=plain", "snorm=6", "snorm_cohort=last_epoch", "train_batch_seconds=2")
]


@pytest.mark.parametrize("head", ["linear", "ecapa", "mhfa"])
def test_runs_train_resume_and_evaluate(head, corpus, tmp_path):
    """A run that stopped after two steps ends bit by bit as one that did not: margin, cohort and statistics too."""
    margin = [f"{MODELRC}.objective=aam_softmax", f"{MODELRC}.aam_softmax.rise_to=3"]
    whole, half = tmp_path / "whole", tmp_path / "half"
    started(corpus.parent, whole, head, *PAPER, *margin)
    started(corpus.parent, half, head, *PAPER, *margin, "config.runner.total_steps=2")
    more = ["-o", "config.runner.total_steps=4"]
    run(["-m", "train", "-e", str(half), "--data", str(corpus.parent), "--device", "cpu", *more])
    one, two = (torch.load(exp / "states-4.ckpt", weights_only=True)["Downstream"] for exp in (whole, half))
    assert one.keys() == two.keys() and {"cohort.vectors", "objective.batches"} <= one.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert one["objective.batches"] == 4 and one["cohort.seen"].any()
    best = str(whole / "dev-best.ckpt")
    run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(corpus.parent), "--device", "cpu"])
    line = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["split"] == "test" and {"eer", "eer_raw"} <= line["metrics"].keys() and line["cohort"] >= 2


# ------------------------------------------------------------------------------------------------------ wrong values


@pytest.mark.parametrize(
    ("datarc", "message"),
    [
        ({"crop_at": "end"}, r"datarc\.crop_at must be one of random, start, but is 'end'"),
        ({"effects": "none"}, r"datarc\.effects must be one of superb, plain, but is 'none'"),
        ({"snorm_cohort": "all"}, r"datarc\.snorm_cohort must be one of drawn, last_epoch, but is 'all'"),
        ({"snorm_cohort": "last_epoch"}, r"snorm_cohort must be drawn without s-norm; set .*snorm to the size"),
        ({"snorm_top": 3}, r"snorm_top must be null .* to downstream_expert\.datarc\.snorm, which is 0, but is 3"),
        ({"snorm": 5, "snorm_top": 6}, r"snorm_top must be null .* which is 5, but is 6"),
        ({"snorm": 5, "snorm_top": 1}, r"snorm_top must be null .* from 2 .*, but is 1"),
    ],
)
def test_wrong_data_options(tmp_path, datarc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, **datarc)


@pytest.mark.parametrize(
    ("modelrc", "message"),
    [
        ({"objective": "am_softmax"}, r"modelrc\.objective must be one of softmax, aam_softmax, but is 'am_softmax'"),
        ({"aam_softmax": {"margin": 1}}, r"unknown config key downstream_expert\.modelrc\.aam_softmax\.margin"),
        ({"aam_softmax": {"m": 2}}, r"aam_softmax\.m must be a number of at least 0 and at most 1\.5, but is 2"),
        ({"aam_softmax": {"s": 0}}, r"aam_softmax\.s must be a number above 0, but is 0"),
        ({"aam_softmax": {"rise_from": 5}}, r"aam_softmax\.rise_to must be a whole number of at least 5, but is 0"),
        ({"head": "ecapa", "ecapa": {"channels": 10, "scale": 4}}, r"channels must be a multiple of .*, but is 10"),
        ({"head": "ecapa", "ecapa": {"scale": 1}}, r"ecapa\.scale must be a whole number of at least 2, but is 1"),
        ({"head": "mhfa", "mhfa": {"heads": 0}}, r"mhfa\.heads must be a whole number of at least 1, but is 0"),
        ({"head": "mhfa", "mhfa": {"dim": 4}}, r"unknown config key downstream_expert\.modelrc\.mhfa\.dim"),
    ],
)
def test_wrong_model_options(tmp_path, modelrc, message):
    with pytest.raises(ElpError, match=message):
        make(tmp_path, modelrc=modelrc)


def test_several_processes_have_no_common_cohort(tmp_path, monkeypatch):
    monkeypatch.setattr("downstream_heads.elp_sv.task.process", lambda: (0, 2))
    with pytest.raises(ElpError, match=r"snorm_cohort must be drawn if several processes train, but is last_epoch"):
        make(tmp_path, snorm=4, snorm_cohort="last_epoch")


def test_the_head_options_of_a_predictor_are_enough():
    for head in HEAD_DEFAULTS:
        name, chosen = head_options({"head": head, "objective": "aam_softmax", **SMALL})
        assert head_options({"head": name, name: chosen}) == (name, chosen)
    assert issubclass(Predictor, Embedder)
