"""Our experts against the plain implementation in ``tests/reference.py``, in float64."""

import pytest
import torch

from tests import reference
from tests.experts import distance, in_float64, make_expert, states_of, stock_expert, waves
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.adapters.primitives import OutputSite

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
PRESETS = ["le", "le-relu", "le-some-layers", "e_only", "conventional", "l_only", "weighted_sum"]
PRESETS += ["houlsby32", "adapterbias", "bottlenecks-together"]
TOLERANCE = 1e-10
WAVS = waves(6400, 4877, dtype=torch.float64)


def _reference_states(expert, stock, wavs):
    tensors = expert.injection.parameters(expert)
    methods = expert.config.methods
    activation = next((methods[key].activation for key in ("e_adapter", "l_adapter") if key in methods), "gelu")
    x, mask = reference.encoder_inputs(stock, wavs)
    with torch.no_grad():
        states = reference.encode(stock.model.encoder, x, mask, tensors, activation)
        return states, reference.l_features(states, tensors, activation)


@pytest.mark.parametrize("config", PRESETS)
@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_states_and_features_are_the_references(config, backbone):
    expert, stock = in_float64(make_expert(backbone, config, noise=0.1)), in_float64(stock_expert(backbone))
    for wavs in (WAVS, WAVS[:1], waves(3200, 3200, 3200, dtype=torch.float64)):
        states, features = _reference_states(expert, stock, wavs)
        assert distance(_valid(expert, wavs, "backbone_hidden_states"), _cut(expert, wavs, states)) < TOLERANCE
        wanted = features or (states if expert.config.features == "layers" else states[-1:])
        assert distance(_valid(expert, wavs, "hidden_states"), _cut(expert, wavs, wanted)) < TOLERANCE


def _valid(expert, wavs, key):
    return _cut(expert, wavs, states_of(expert, wavs, key))


def _cut(expert, wavs, states):
    """Only the host's valid frames count; after them, every implementation may leave anything."""
    frames = expert.injection.frame_len(torch.tensor([len(wav) for wav in wavs])).tolist()
    return [torch.cat([row[:length] for row, length in zip(state, frames, strict=True)]) for state in states]


def test_the_reference_is_the_stock_model_without_adapters():
    for backbone in S3PRL_STYLE:
        stock = in_float64(stock_expert(backbone))
        with torch.no_grad():
            plain = reference.encode(stock.model.encoder, *reference.encoder_inputs(stock, WAVS[:1]))
        assert distance(states_of(stock, WAVS[:1]), plain) < TOLERANCE, backbone


@pytest.mark.parametrize("backbone", ["wavlm-base", "hubert-large"])
def test_featurizer_gives_the_references_weighted_sum(backbone):
    expert, stock = in_float64(make_expert(backbone, "le", noise=0.1)), in_float64(stock_expert(backbone))
    from s3prl.upstream.interfaces import Featurizer

    featurizer = Featurizer(_CastsTo64(expert), upstream_device="cpu").double()
    with torch.no_grad():
        featurizer.weights.copy_(torch.tensor([0.3, -1.0, 0.7]))
        ours = featurizer(WAVS, expert(WAVS))
        wanted = reference.weighted_sum(_reference_states(expert, stock, WAVS)[1], featurizer.weights)
    for index, (row, wav) in enumerate(zip(ours, WAVS, strict=True)):
        frames = int(expert.injection.frame_len(torch.tensor(len(wav))))
        assert (row[:frames] - wanted[index, :frames]).abs().max() < TOLERANCE


class _CastsTo64(torch.nn.Module):
    """Casts waves to float64, since S3PRL's Featurizer probes with float32 noise."""

    def __init__(self, expert):
        super().__init__()
        self.expert = expert

    def get_downsample_rates(self, key):
        return self.expert.get_downsample_rates(key)

    def forward(self, wavs):
        return self.expert([wav.double() for wav in wavs])


def test_reference_init_is_the_papers():
    expert = make_expert("wavlm-base", "conventional", dim=128)
    adapter = expert.backbone.model.encoder.layers[0].dropout1.adapters["e_adapter"]
    for linear in (adapter.down, adapter.up):
        assert abs(float(linear.weight.detach().std()) - 1e-3) < 1e-4  # 5,504 values: the spread of the estimate is 1 %
        assert linear.bias.abs().max() == 0
    assert torch.equal(adapter.norm.weight, torch.ones(128)) and adapter.norm.bias.abs().max() == 0
    assert adapter.down.out_features == 40  # 128 / 3 to the next multiple of 8


@pytest.mark.parametrize("backbone", BACKBONES)
def test_adapters_see_what_the_dropout_leaves(backbone):
    """The adapters of an output site see the block's output after its dropout; additions are computed without it."""
    methods = {"e_adapter": {"sites": ["attention", "ffn"]}, "houlsby": {"sites": ["attention", "ffn"]}}
    expert = make_expert(backbone, {"features": "last", "backbone_dropout": True, **methods}).train()
    sites = [module for module in expert.modules() if isinstance(module, OutputSite)]
    seen = []
    for site in sites:
        for part in (site.dropout, site.adapters["e_adapter"], site.additions["houlsby"]):
            part.register_forward_hook(lambda _, args, output: seen.append((args[0].detach(), output.detach())))
    expert(waves(4000, 2900))
    assert len(seen) == 3 * len(sites) == 18
    for (before, after), (adapted, _), (added, _) in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        assert torch.equal(adapted, after) and torch.equal(added, before)
        assert 0.05 < float((after == 0).float().mean()) < 0.15  # dropout of 0.1 in 32 x 9 values or more
