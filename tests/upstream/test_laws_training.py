"""Laws over all configurations and backbones: what training reaches, what it does not touch, and padding."""

import zlib

import pytest
import torch
from torch import nn

from tests.experts import (
    CONFIGS,
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
from upstream_elp.adapters.config import load_config
from upstream_elp.audio.front import STANDARD
from upstream_elp.backbones.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)
WITH_KEY_BIASES = [
    name
    for name, raw in CONFIGS.items()
    if any(method.zero_gradients(FAMILIES["wavlm"]) for method in load_config(raw).methods.values())
]
INVARIANT = 1e-6


def _groups(expert):
    """Declared parameters by site: an adapter, a replaced tensor, or a fine-tuned layer; only those with an effect."""
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


def _drawn_lengths(case, *, pairs=3):
    """Pairs of lengths in samples, different for every case; one of the two is padded."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.encode()))
    return torch.randint(2500, 9000, (pairs, 2), generator=generator).tolist()


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_padding_matters_only_where_it_does_for_the_plain_backbone(config, backbone, law):
    """Elsewhere, no factor bounds the adapted one's difference: recipes/bench/padding.py measures it."""
    expert, plain = in_float64(make_expert(backbone, config)), in_float64(stock_expert(backbone))
    for lengths in _drawn_lengths(f"{config} {backbone}"):
        ours, theirs = _both_differences(expert, plain, lengths)
        if max(theirs) <= INVARIANT:
            law("padded batch == alone, where it is in the plain backbone")
            assert max(ours) <= INVARIANT, lengths


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_adapters_let_no_padding_in(config, backbone, law):
    """If the backbone itself does not see padding and its mask is exact, padding does not matter to any adapter."""
    law("padded batch == alone, without what sees padding")
    expert = in_float64(make_expert(backbone, config, noise=0.05))
    plain = in_float64(stock_expert(backbone))
    for module in (expert, plain):
        taken = _blind_to_padding(module, backbone)
        assert taken or backbone not in SEE_PADDING
    for lengths in _drawn_lengths(f"{backbone} {config}"):
        ours, theirs = _both_differences(expert, plain, lengths)
        assert max(theirs) <= INVARIANT and max(ours) <= INVARIANT, lengths


def _blind_to_padding(module, backbone):
    """Remove group norms over time and data2vec's positional convolutions; make S3PRL's masks exact."""
    seeing = [
        (owner, name)
        for owner in module.modules()
        for name, part in owner.named_children()
        if isinstance(part, nn.GroupNorm) or (name == "pos_conv" and backbone.startswith("data2vec"))
    ]
    for owner, name in seeing:
        setattr(owner, name, nn.Identity())
    for model in [model for model in module.modules() if hasattr(model, "forward_padding_mask")]:
        model.forward_padding_mask = _exact_mask
    return seeing


def _exact_mask(features, padding_mask):
    frames = STANDARD.frame_len((~padding_mask).sum(dim=1))
    return torch.arange(features.shape[1]) >= frames.unsqueeze(1)


def _both_differences(expert, plain, lengths):
    wavs = waves(*lengths, dtype=torch.float64)
    frames = STANDARD.frame_len(torch.tensor(lengths)).tolist()
    ours = [
        difference
        for key in ("backbone_hidden_states", "hidden_states")
        for difference in _padding_differences(expert, wavs, frames, key)
    ]
    return ours, _padding_differences(plain, wavs, frames, "hidden_states")


def _padding_differences(expert, wavs, frames, key):
    """Largest relative difference per utterance between a state computed separately and one computed in the batch."""
    together = states_of(expert, wavs, key)
    differences = []
    for index, (wav, length) in enumerate(zip(wavs, frames, strict=True)):
        alone = states_of(expert, [wav], key)
        assert all(state.shape[1] == length for state in alone)
        relative = [float((a[0] - t[index, :length]).norm() / a.norm()) for a, t in zip(alone, together, strict=True)]
        differences.append(max(relative))
    return differences
