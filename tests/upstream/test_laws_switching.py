"""Laws over all configurations and backbones: identity, off, toggles, saving, copies, sites."""

import copy
from collections import Counter

import pytest
import torch

from tests.experts import (
    CONFIGS,
    add_noise,
    changed,
    collected,
    distance,
    equal,
    make_expert,
    snapshot,
    states_of,
    stock_expert,
    train_step,
    waves,
)
from tests.toys import LAW_BACKBONES
from upstream_elp.base.errors import ElpError

pytestmark = [
    pytest.mark.parametrize("backbone", LAW_BACKBONES),
    pytest.mark.parametrize("config", CONFIGS),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),
]
WAVS = waves(2900, 4000)


def test_identity_at_init(config, backbone, law):
    """A method promises a bitwise identity, or a bound that each of its cases keeps; its docstring gives the reason."""
    expert = make_expert(backbone, config)
    # torch uses another attention kernel if the attention's own weights require a gradient
    expert.requires_grad_(False)
    wavs = waves(12000, 9500)
    plain = states_of(stock_expert(backbone), wavs)
    adapted = states_of(expert, wavs, "backbone_hidden_states")
    limit = max((method.moves_at_init for method in expert.config.methods.values()), default=0.0)
    if limit == 0:
        law("identity at init, bitwise")
        assert equal(adapted, plain)
        return
    law("identity at init, bounded")
    moved = [float((a - p).norm() / p.norm()) for a, p in zip(adapted, plain, strict=True)]
    assert 0 < max(moved) < limit


def test_off_is_the_plain_backbone(config, backbone, law):
    expert = make_expert(backbone, config)
    in_place = "the backbone is trained in place, so that its plain weights are gone"
    law("off == plain backbone, bitwise", refused=None if expert.injection.switchable else in_place)
    if expert.injection.declared:
        train_step(expert.train(), WAVS)
    expert.eval()
    on = states_of(expert, WAVS)
    if not expert.injection.switchable:
        with pytest.raises(ElpError, match="cannot be switched off"):
            expert.enabled = False
        assert expert.enabled
        return
    expert.enabled = False
    assert expert.enabled is (not list(expert.injection.switches(expert)))
    assert equal(states_of(expert, WAVS, "backbone_hidden_states"), states_of(stock_expert(backbone), WAVS))
    expert.enabled = True
    assert equal(states_of(expert, WAVS), on)


def test_modes_change_nothing(config, backbone, law):
    law("train and eval: same tensors, number, shape and length")
    expert = make_expert(backbone, config, noise=0.1)
    before = snapshot(expert)
    plain = states_of(stock_expert(backbone), WAVS)
    shapes = []
    for training in (False, True, False):
        expert.train(training)
        shapes.append([state.shape for state in states_of(expert, WAVS)])
    assert not changed(expert, before)
    assert shapes[0] == shapes[1] == shapes[2]
    features, methods = expert.config.features, expert.config.methods
    layers = len(plain) - 1
    number = {"l": len(expert.injection.l_layers), "layers": layers + 1, "last": 1}[features]
    width = expert.l_adapters["1"].projection.out_features if "l_adapter" in methods else plain[0].shape[-1]
    assert shapes[0] == [(2, plain[0].shape[1], width)] * number
    adapted = states_of(expert, WAVS, "backbone_hidden_states")
    assert [state.shape for state in adapted] == [state.shape for state in plain]


def test_frozen_modules_stay_in_eval_mode(config, backbone, law):
    law("the backbone's mode in training")
    expert = make_expert(backbone, config).train()
    path = f"{expert.injection.model_path}.{expert.injection.family.encoder}"
    assert expert.get_submodule(path).training is expert.config.backbone_dropout
    assert all(expert.get_submodule(site).training for site in expert.injection.sites)
    assert not any(module.training for module in expert.eval().modules())


def test_saved_and_loaded_gives_the_same(config, backbone, law):
    law("save -> load, same output")
    expert = make_expert(backbone, config, noise=0.1)
    other = make_expert(backbone, config, seed=5)
    other.load_state_dict(expert.state_dict())
    assert equal(states_of(other, WAVS), states_of(expert, WAVS))


def test_deep_copy_is_independent(config, backbone, law):
    law("deep copy is independent")
    expert = make_expert(backbone, config, noise=0.1)
    clone = copy.deepcopy(expert)  # before the original ran, and again after
    clone = copy.deepcopy(clone)
    before, reference = snapshot(expert), states_of(expert, WAVS)
    assert equal(states_of(clone, WAVS), reference)
    assert collected(expert.backbone) == []  # the states of the clone were not added to the original
    own = {id(tensor) for tensor in [*expert.parameters(), *expert.buffers()]}
    assert not own & {id(tensor) for tensor in [*clone.parameters(), *clone.buffers()]}
    assert not {id(module) for module in expert.modules()} & {id(module) for module in clone.modules()}
    if not expert.injection.declared:
        return
    train_step(clone.train(), WAVS)
    assert not changed(expert, before)
    assert equal(states_of(expert, WAVS), reference)
    moved = states_of(clone.eval(), WAVS)
    assert distance(moved, reference) > 1e-4
    add_noise(expert)
    assert equal(states_of(clone, WAVS), moved)
    if expert.injection.switchable:
        clone.enabled = False
        assert expert.enabled


def test_every_declared_site_is_entered(config, backbone, law):
    law("every declared site is entered")
    expert = make_expert(backbone, config)
    entered = Counter()
    for path in expert.injection.sites:
        expert.get_submodule(path).register_forward_hook(lambda *_, path=path: entered.update([path]))
    states_of(expert, WAVS)
    assert entered.keys() == set(expert.injection.sites)
    for path, times in entered.items():
        assert times == 1 or "parametrizations" in path, path


def test_state_dict_has_no_frozen_tensor(config, backbone, law):
    law("a state dict holds the declared tensors")
    expert = make_expert(backbone, config)
    state = expert.state_dict()
    assert set(state) == {*expert.injection.declared, "elp_backbone_sha256"}
    for name, parameter in expert.injection.parameters(expert).items():
        assert torch.equal(state[name], parameter)
