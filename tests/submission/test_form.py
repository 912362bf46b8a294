"""The form: its limits, what is computed for it, and MACs against plain arithmetic and published figures."""

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.programs import elp
from tests.submission.short_runs import words_of
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.submission import form, macs
from upstream_elp.submission.macs import BUCKETS, count_macs, superb_macs
from upstream_elp.upstream.build import build_upstream, load_backbone

RIGHT = {
    "submitName": "le",
    "modelURL": "https://github.com/someone/something",
    "modelDesc": "adapters: E and L",
    "inputFormat": "waveform",
    "corpus": "LS 960 hr",
    "paramDesc": "frozen, with adapters",
    "stride": "20",
    **{name: str(8 * number) for number, name in enumerate(BUCKETS, start=1)},
    "macs": "80",
    "paramShared": "94381936",
    "fineTunedParam": "9127424",
    "taskSpecParam": "",
    "task": "3",
}
WRONG = [
    ("submitName", "x" * 21, "at most 20 characters"),
    ("modelURL", "https://gitlab.com/x", "an address on github.com"),
    ("modelURL", "https://github.com.evil.org/x", "an address on github.com"),
    *((name, "x" * 301, "at most 300") for name in ("modelDesc", "inputFormat", "corpus", "paramDesc")),
    ("stride", "101", "from 0 to 100"),
    ("stride", "20.5", "from 0 to 100"),
    ("stride", "-1", "from 0 to 100"),
    ("macs", "1.5e12", "a whole number below 2"),
    ("macs", "81", "the sum of the four others, 80, but is 81"),
    ("macsShort", str(2**64), "a whole number below 2"),
    ("paramShared", "95M", "a whole number below 2"),
    ("fineTunedParam", "1" * 101, "at most 100 digits"),
    ("taskSpecParam", "half", "at most 100 digits"),
    ("task", "4", "1 .constrained., 2"),
]


def test_a_right_form(tmp_path):
    path = tmp_path / "form.yaml"
    form.write_form(path, RIGHT, ["a remark"])
    assert form.read_form(path) == {key: RIGHT[key] for key in form.FIELDS}
    assert form.empty_fields(RIGHT) == [] and "# a remark" in path.read_text()
    assert yaml.safe_load(path.read_text())["paramShared"] == 94381936


@pytest.mark.parametrize(("key", "value", "must"), WRONG)
def test_wrong_values_name_the_field(key, value, must, tmp_path):
    path = tmp_path / "form.yaml"
    form.write_form(path, {**RIGHT, key: value})
    with pytest.raises(ElpError, match=f"the field {key} must be .*{must}"):
        form.read_form(path)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["submitName", "modelDesc", "corpus"]), st.text(max_size=20)))
def test_any_text_survives_the_file(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("form") / "form.yaml"
    values = {key: " ".join(text.split()) for key, text in texts.items()}
    values = {key: text for key, text in values.items() if text.isprintable()}
    form.write_form(path, values)
    assert {key: text for key, text in form.read_form(path).items() if text} == {k: v for k, v in values.items() if v}


def test_unknown_and_odd_fields(tmp_path):
    path = tmp_path / "form.yaml"
    path.write_text("submitname: x\n")
    with pytest.raises(ElpError, match="unknown field 'submitname'; did you mean submitName"):
        form.read_form(path)
    path.write_text("macs: 1e12\n")
    with pytest.raises(ElpError, match="macs is 1e12, which YAML reads as text"):
        form.read_form(path)
    path.write_text("stride: 20.0\n")
    with pytest.raises(ElpError, match=r"stride must be a text or a whole number, but is 20\.0"):
        form.read_form(path)


@pytest.fixture
def short(monkeypatch):
    """Count on short waves only: the sums are then quick."""
    monkeypatch.setattr(macs, "BUCKETS", {name: (lengths[0] // 20,) for name, lengths in BUCKETS.items()})


@pytest.mark.usefixtures("short")
def test_the_form_is_filled_from_the_runs_and_kept(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    words = ("submit", tmp_path / "out.zip", *words_of(found), "--data", data)
    assert elp(*words, monkeypatch=monkeypatch) == 0
    assert "form.yaml: fill in submitName, modelDesc, corpus, paramDesc\n" in capsys.readouterr().out
    values = form.read_form(tmp_path / "form.yaml")
    stock, _ = load_backbone(None, str(tiny_backbone()), False, None)
    assert values["paramShared"] == str(sum(parameter.numel() for parameter in stock.parameters()))
    assert (values["stride"], values["fineTunedParam"], values["task"]) == ("20", "0", "1")
    heads = 0
    for task in ("asr", "sv", "fold1", "ic"):
        best = next(found[task].glob("*-best.ckpt"))
        content = torch.load(best, weights_only=False)
        tensors = [*content["Downstream"].items(), *content["Featurizer"].items()]
        heads += sum(t.numel() for name, t in tensors if t.is_floating_point() and name != "best_score")
    assert values["taskSpecParam"] == str(heads)
    assert {name: str(count) for name, count in superb_macs(stock).items()} == {
        name: values[name] for name in form.COUNTED
    }
    mine = {"submitName": "mine", "modelDesc": "a: b", "corpus": "none", "paramDesc": "few", "stride": "40"}
    form.write_form(tmp_path / "form.yaml", {**values, **mine})
    assert elp(*words, monkeypatch=monkeypatch) == 0
    assert "form.yaml: complete\n" in capsys.readouterr().out
    assert form.read_form(tmp_path / "form.yaml") == {**values, **mine}


def test_a_wrong_form_stops_before_packing(runs, tmp_path, monkeypatch, capsys):
    data, found = runs
    (tmp_path / "mine.yaml").write_text(f"submitName: {'x' * 21}\n")
    words = ("submit", tmp_path / "out.zip", "--ic", found["ic"], "--data", data, "--form", tmp_path / "mine.yaml")
    assert elp(*words, monkeypatch=monkeypatch) == 2
    assert "submitName must be at most 20 characters long" in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()


class Toy(nn.Module):
    """A convolution, a linear layer and attention, whose MACs are known."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv1d(1, 8, 400, stride=320), nn.Linear(8, 16, bias=False)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, wavs):
        frames = self.linear(self.conv(wavs[0][None, None]).transpose(1, 2))  # (1, frames, 16)
        return self.attention(frames, frames, frames, need_weights=False)[0].relu()


@pytest.mark.parametrize("samples", [400, 16000])
def test_macs_by_hand(samples):
    frames = (samples - 400) // 320 + 1
    conv, linear, projections = frames * 8 * 400, frames * 8 * 16, 4 * frames * 16 * 16
    attention = 2 * frames * frames * 16
    assert count_macs(Toy().eval(), samples) == conv + linear + projections + attention


@pytest.mark.usefixtures("short")
def test_adapters_count_and_the_mode_is_kept():
    plain, adapted = (
        build_upstream(None, ckpt=str(tiny_backbone()), model_config=name) for name in ("weighted_sum", "le")
    )
    adapted.train()
    difference = superb_macs(adapted)["macs"] - superb_macs(plain)["macs"]
    assert difference > 0 and adapted.training
    assert torch.backends.mha.get_fastpath_enabled()


#: https://github.com/superbbenchmark/website-react, backend/utils.py: short, medium, long, longer, all; parameters
PUBLISHED = (149_255_103_040, 261_280_279_552, 422_366_359_296, 836_254_280_960, 1_669_156_022_848)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "parameters"), [("wav2vec2", 95_044_608), ("hubert", 94_697_600)])
def test_macs_and_parameters_of_base_models_are_the_published_ones(family, parameters, tmp_path, monkeypatch):
    assert (
        elp("mini-backbone", tmp_path / "base.pt", "--family", family, "--size", "base", monkeypatch=monkeypatch) == 0
    )
    stock, _ = load_backbone(None, str(tmp_path / "base.pt"), False, None)
    assert sum(parameter.numel() for parameter in stock.parameters()) == parameters
    assert [len(lengths) for lengths in BUCKETS.values()] == [8] * 4
    found = superb_macs(stock)
    assert [found[name] for name in (*BUCKETS, "macs")] == pytest.approx(PUBLISHED, rel=0.02)
