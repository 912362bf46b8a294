"""The expert under S3PRL's contract: its keys, its refusals, and its warnings."""

import logging

import pytest
import torch
from torch import nn

import upstream_elp
from tests.experts import make_expert, states_of, stock_expert, train_step, waves
from tests.toys import BACKBONES, tiny_backbone
from upstream_elp.adapters.config import load_config
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.inject import find_family

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)


def test_keys_of_the_result():
    expert = make_expert("wavlm-base", "elp")
    result = expert(WAVS)
    states = result["backbone_hidden_states"]
    assert len(states) == 4 and result["last_hidden_state"] is states[-1]
    assert all(result[f"hidden_state_{index}"] is state for index, state in enumerate(states))
    assert expert.get_downsample_rates("hidden_state_2") == 320


@pytest.mark.parametrize("key", ["hidden_states", "last_hidden_state", "hidden_state_2", "backbone_hidden_states"])
def test_s3prls_featurizer_selects_by_key(key):
    from s3prl.upstream.interfaces import Featurizer

    expert = make_expert("hubert-large", "elp")
    featurizer = Featurizer(expert, feature_selection=key, upstream_device="cpu")
    assert featurizer.feature_selection == key
    assert featurizer.output_dim == (24 if key == "hidden_states" else 32)
    assert [len(row) for row in featurizer(WAVS, expert(WAVS))] == [9, 12]  # samples / 320, rounded


@pytest.mark.parametrize("backbone", BACKBONES)
def test_frame_lengths_are_the_convolutions(backbone):
    expert, stock = make_expert(backbone, "le"), stock_expert(backbone)
    assert expert.injection.min_samples == 400
    for samples in (400, 719, 720, 1039, 1040, 5000):
        frames = int(expert.injection.frame_len(torch.tensor(samples)))
        assert frames == (samples - 400) // 320 + 1 == states_of(stock, waves(samples))[0].shape[1]
    assert int(expert.injection.frame_len(torch.tensor(399))) == 0


BAD_WAVES = {
    "two-dimensional": (
        [torch.zeros(1, 4000)],
        r"wave 0 of the batch must have the shape \(samples,\), but has \(1, 4000\)",
    ),
    "short": ([torch.zeros(399)], "wave 0 of the batch must have at least 400 samples, but has 399"),
    "short in a batch": ([torch.zeros(4000), torch.zeros(10)], "wave 1 of the batch must .* samples, but has 10"),
    "empty": ([torch.zeros(4000), torch.zeros(0)], "wave 1 of the batch must .* samples, but has 0"),
    "nan": ([torch.zeros(900), torch.full((900,), float("nan"))], "wave 1 of the batch contains samples that are not"),
    "infinite": ([torch.full((900,), float("inf"))], "not finite"),
    "none": ([], "the batch does not contain any waves"),
    "one": (torch.zeros(4000), r"must be a list of waves, .*, but is a tensor of shape \(4000,\)"),
    "a path": ("a.wav", "must be a list of waves, .*, but is a str"),
    "float64": ([torch.zeros(900).double()], "wave 0 of the batch must be of type torch.float32, .* torch.float64"),
    "float16": ([torch.zeros(900).half()], "wave 0 of the batch must be of type torch.float32, .* torch.float16"),
    "integers": ([torch.zeros(900).short()], "wave 0 of the batch must be of type torch.float32, .* torch.int16"),
    "paths": (["a.wav"], "wave 0 of the batch must be a tensor .*, but is a str"),
}


@pytest.mark.parametrize("kind", BAD_WAVES)
def test_bad_waves_are_refused(kind):
    wavs, message = BAD_WAVES[kind]
    with pytest.raises(ElpError, match=message):
        make_expert("wavlm-base", "elp")(wavs)


def test_after_an_error_the_next_batch_is_right():
    expert = make_expert("hubert-base", "elp")
    before = states_of(expert, WAVS)
    with pytest.raises(ElpError):
        expert([torch.zeros(10)])
    assert all(map(torch.equal, states_of(expert, WAVS), before))
    assert expert.injection.pseudo(expert)._frame_len is None


def test_unknown_backbones_are_described():
    config = load_config("le")
    with pytest.raises(ElpError, match=r"no supported backbone was found; the families are wavlm, hubert, wav2vec2"):
        ElpExpert(nn.Sequential(nn.Linear(2, 2)), config, check=False)
    stock = stock_expert("wavlm-base")
    stock.model.encoder.layers[1] = nn.TransformerEncoderLayer(32, 4)
    with pytest.raises(
        ElpError, match=r"layers of this wavlm model are of type .*TransformerEncoderLayer, .* only support"
    ):
        find_family(stock)


# --- warnings -------------------------------------------------------------------------------------------------------


def _warnings(caplog):
    return [r for r in caplog.records if r.levelno >= logging.WARNING and "untrained" in r.getMessage()]


def test_untrained_adapters_used_frozen_warn_once(caplog):
    from s3prl.upstream.interfaces import Featurizer

    expert = make_expert("wavlm-base", "elp", check=True)
    Featurizer(expert, upstream_device="cpu")
    assert not _warnings(caplog)  # the self-check and the featurizer's probe do not count as use
    for _ in range(3):
        states_of(expert, WAVS)
    assert len(_warnings(caplog)) == 1
    assert "train with -f" in _warnings(caplog)[0].getMessage()
    assert "or load trained adapters with -k FOLDER" in _warnings(caplog)[0].getMessage()


def test_adapters_that_a_toolkit_froze_warn_once(caplog):
    """ESPnet's freeze_param on the whole upstream freezes adapters too, and its forward pass still records a graph."""
    expert = make_expert("wavlm-base", "le").requires_grad_(False).train()
    for _ in range(3):
        expert(WAVS)
    assert len(_warnings(caplog)) == 1 and not expert.trained
    assert "do not freeze the upstream" in _warnings(caplog)[0].getMessage()


def test_s3prl_upstreams_probe_does_not_warn(caplog):
    upstream_elp.register()
    from s3prl.nn import Featurizer, S3PRLUpstream

    upstream = S3PRLUpstream("elp_custom", str(tiny_backbone(None, "wavlm")))
    Featurizer(upstream)
    assert not _warnings(caplog)
    wavs, wavs_len = torch.randn(1, 4000), torch.tensor([4000])
    with torch.no_grad():
        upstream(wavs, wavs_len), upstream(wavs, wavs_len)
    assert len(_warnings(caplog)) == 1


@pytest.mark.parametrize("use", ["trained", "loaded", "weighted_sum"])
def test_no_warning_where_nothing_is_untrained(use, caplog):
    expert = make_expert("wavlm-base", "weighted_sum" if use == "weighted_sum" else "le")
    if use == "trained":
        states_of(expert, WAVS)  # the featurizer's probe
        train_step(expert.train(), WAVS)
    if use == "loaded":
        expert.load_state_dict(expert.state_dict())
    for _ in range(3):
        states_of(expert, WAVS)
    assert not _warnings(caplog)
