"""Laws over all configurations and backbones: what training reaches, what it leaves alone, and padding."""

import pytest
import torch
from torch import nn

from tests.experts import (
    CONFIGS,
    MORE_KEYS,
    changed,
    distance,
    in_float64,
    make_expert,
    random_loss,
    snapshot,
    states_of,
    stock_expert,
    train_step,
    waves,
)
from tests.toys import BACKBONES, LAW_BACKBONES, SEE_PADDING
from upstream_elp.config import load_config

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)
WITH_KEY_BIASES = [name for name, raw in CONFIGS.items() if {"encoder", "bias"} & load_config(raw).methods.keys()]
WITH_MORE_KEYS = [name for name, raw in CONFIGS.items() if MORE_KEYS & set(load_config(raw).methods)]


def _groups(expert):
    """Declared parameters by site: an adapter, a replaced tensor, or a fine-tuned layer; none that acts on nothing."""
    groups = {}
    parameters = expert.injection.parameters(expert)
    for name, item in expert.injection.declared.items():
        if item.zero_gradient:
            continue
        site = next((path for path in expert.injection.sites if item.path.startswith(f"{path}.")), None)
        groups.setdefault(site or ".".join(name.split(".")[:2]), []).append(parameters[name])
    return groups


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_every_site_changes_the_output(config, backbone, law):
    law("sensitivity at every single site")
    expert = make_expert(backbone, config, noise=0.1)
    groups = _groups(expert)
    idle = {item.path for item in expert.injection.declared.values() if item.zero_gradient}
    assert {site for site in expert.injection.sites if not any(path.startswith(site) for path in idle)} <= set(groups)
    reference = states_of(expert, WAVS)
    generator = torch.Generator().manual_seed(3)
    for site, parameters in groups.items():
        saved = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        assert distance(states_of(expert, WAVS), reference) > 1e-5, site
        with torch.no_grad():
            for parameter, value in zip(parameters, saved, strict=True):
                parameter.copy_(value)
    assert distance(states_of(expert, WAVS), reference) == 0


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_declared_tensors_train_and_no_other(config, backbone, law):
    law("gradients reach the declared tensors and no other")
    expert = make_expert(backbone, config, noise=0.1)
    if not expert.injection.declared:
        assert not any(parameter.requires_grad for parameter in expert.parameters())
        return
    before = snapshot(expert)
    train_step(expert.train(), WAVS)
    declared = {item.path: item for item in expert.injection.declared.values()}
    for path, parameter in expert.named_parameters():
        if path not in declared:
            assert parameter.grad is None and not parameter.requires_grad, path
        elif not declared[path].zero_gradient:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, path
    zero = {item.path for item in declared.values() if item.zero_gradient}
    assert all("k_proj" in path and "bias" in path for path in zero)
    assert declared.keys() - zero <= set(changed(expert, before)) <= declared.keys()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("config", WITH_KEY_BIASES)
def test_key_biases_have_no_gradient(config, backbone, law):
    expert = make_expert(backbone, config)
    names = [name for name, item in expert.injection.declared.items() if item.zero_gradient]
    assert names
    law("zero gradients are zero")
    in_float64(expert)
    random_loss(expert(waves(4000, 2900, dtype=torch.float64))["hidden_states"]).backward()
    parameters = expert.injection.parameters(expert)
    for name in names:
        query = parameters[name.replace("k_proj", "q_proj")]
        assert parameters[name].grad.abs().max() < 1e-10 * query.grad.abs().max(), name


#: unequal lengths: the host's masks mark a frame too many in one of them
LENGTHS = [(8000, 6300), (6479, 4880)]


#: Where group norm over the padding, or data2vec's positional convolutions, already make the plain encoder's input
#: differ by more than half its size, further keys can make the last states differ more (measured: up to 1.45 times).
#: The same encoders behind a front end that does not see padding hold the law, see the test after this one.
SEEN_ALLOWANCE = 1.6


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_padding_matters_no_more_than_for_the_plain_backbone(config, backbone, law):
    expert, plain = in_float64(make_expert(backbone, config)), in_float64(stock_expert(backbone))
    refused = config in WITH_MORE_KEYS and backbone in SEE_PADDING
    weaker = " (more keys behind what sees padding: weaker)" if refused else ""
    law(f"padded batch == alone, as the plain backbone{weaker}")
    _assert_as_invariant(expert, plain, SEEN_ALLOWANCE if refused else 1.1)


@pytest.mark.parametrize("backbone", SEE_PADDING)
@pytest.mark.parametrize("config", ["le", "conventional", *WITH_MORE_KEYS])
def test_padding_does_not_matter_behind_an_invariant_front_end(config, backbone, law):
    law("padded batch == alone, what sees padding taken out")
    expert, plain = in_float64(make_expert(backbone, config)), in_float64(stock_expert(backbone))
    for module in (expert, plain):
        seeing = [
            (owner, name)
            for owner in module.modules()
            for name, part in owner.named_children()
            if isinstance(part, nn.GroupNorm) or (name == "pos_conv" and backbone.startswith("data2vec"))
        ]
        assert seeing
        for owner, name in seeing:
            setattr(owner, name, nn.Identity())
    _assert_as_invariant(expert, plain, 1.1)


def _assert_as_invariant(expert, plain, allowance):
    for lengths in LENGTHS:
        wavs = waves(*lengths, dtype=torch.float64)
        frames = expert.injection.frame_len(torch.tensor(lengths)).tolist()
        ours = _padding_differences(expert, wavs, frames, "backbone_hidden_states")
        theirs = _padding_differences(plain, wavs, frames, "hidden_states")
        for adapted, stock in zip(ours, theirs, strict=True):
            assert adapted <= (1e-6 if stock <= 1e-6 else allowance * stock), (lengths, ours, theirs)
        if max(theirs) <= 1e-6:
            assert max(_padding_differences(expert, wavs, frames, "hidden_states")) <= 1e-6


def _padding_differences(expert, wavs, frames, key):
    """Per utterance the largest relative difference of a state alone and in the batch."""
    together = states_of(expert, wavs, key)
    differences = []
    for index, (wav, length) in enumerate(zip(wavs, frames, strict=True)):
        alone = states_of(expert, [wav], key)
        assert all(state.shape[1] == length for state in alone)
        relative = [float((a[0] - t[index, :length]).norm() / a.norm()) for a, t in zip(alone, together, strict=True)]
        differences.append(max(relative))
    return differences
