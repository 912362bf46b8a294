"""The self-check catches what is wrong and leaves everything as it was."""

import random

import numpy as np
import pytest
import torch

from tests.experts import (
    CONFIGS,
    SELECTIONS,
    changed,
    collected,
    make_expert,
    snapshot,
    states_of,
    stock_expert,
    waves,
)
from tests.toys import BACKBONES
from upstream_elp.adapters.primitives import OutputSite
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.selfcheck import Probe, self_check

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


@pytest.fixture(scope="module")
def probe():
    return Probe(stock_expert())


def _freeze_one(expert):
    expert.get_parameter(expert.injection.declared["e_adapter.1.ffn.up.bias"].path).requires_grad_(False)


def _train_another(expert):
    expert.backbone.model.post_extract_proj.weight.requires_grad_(True)


def _skip_a_site(expert):
    layer = expert.backbone.model.encoder.layers[1]
    layer.dropout3.forward = layer.dropout3.dropout.forward


def _drop_a_layers_features(expert):
    expert.injection.l_layers = (0, 2)


def _detach_an_adapter(expert):
    adapter = expert.l_adapters["1"]
    plain = type(adapter).forward
    adapter.forward = lambda x: plain(adapter, x).detach()


def _ignore_the_switch(expert):
    site = expert.backbone.model.encoder.layers[0].dropout3

    class Stuck(OutputSite):
        def forward(self, x):
            return self.adapters["e_adapter"](self.dropout(x))

    site.__class__ = Stuck


def _damage_the_backbone(expert):
    with torch.no_grad():
        expert.backbone.model.encoder.layers[2].fc1.weight[0, 0] += 1


MUTANTS = {
    _freeze_one: "e_adapter.1.ffn.up.bias is frozen",
    _train_another: "post_extract_proj.weight is trainable, but no method declares it",
    _skip_a_site: "layers.1.dropout3.adapters.e_adapter is never entered",
    _drop_a_layers_features: "l_adapters.1 is never entered",
    _detach_an_adapter: "l_adapter.1.projection.weight receives no gradient",
    _ignore_the_switch: "with the adapters off",
    _damage_the_backbone: "with the adapters off",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutants_are_caught(mutant, probe):
    expert = make_expert("wavlm-base", "le")
    self_check(expert, probe)
    mutant(expert)
    before, flags = snapshot(expert), [p.requires_grad for p in expert.parameters()]
    with pytest.raises(ElpError, match=MUTANTS[mutant]):
        self_check(expert, probe)
    assert not changed(expert, before)
    assert expert.enabled and [p.requires_grad for p in expert.parameters()] == flags


def test_layers_above_the_last_used_one_are_refused():
    config = {"base": "le", "l_adapter": {"layers": [0]}}
    with pytest.raises(ElpError, match=r"e_adapter\.1\.ffn\.down\.weight receives no gradient"):
        make_expert("wavlm-base", config, check=True)


@pytest.mark.parametrize("config", ["elp", "conventional", "full_finetune", "weighted_sum", "elp-start-cnn"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_leaves_everything_as_it_was(config, backbone):
    probe = Probe(stock_expert(backbone))
    expert = make_expert(backbone, config)
    expert.train()
    next(expert.backbone.children()).eval()
    before, modes = snapshot(expert), [module.training for module in expert.modules()]
    flags = [parameter.requires_grad for parameter in expert.parameters()]
    random_states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    self_check(expert, probe)
    assert not changed(expert, before)
    assert [module.training for module in expert.modules()] == modes
    assert [parameter.requires_grad for parameter in expert.parameters()] == flags
    assert all(parameter.grad is None for parameter in expert.parameters())
    assert not expert.trained and not expert._warned and expert._frozen_calls == 0
    assert random.getstate() == random_states[0]
    assert all(map(np.array_equal, np.random.get_state()[1:], random_states[1][1:]))
    assert torch.equal(torch.get_rng_state(), random_states[2])
    assert collected(expert.backbone) == []


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("preset", sorted(SELECTIONS))
def test_presets_that_no_law_runs_over_pass(preset, backbone):
    make_expert(backbone, {"base": preset}, check=True)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_check_changes_no_result(config):
    torch.manual_seed(0)
    unchecked = make_expert("hubert-base", config)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    checked = make_expert("hubert-base", config, check=True)
    assert torch.equal(torch.rand(1), drawn)
    wavs = waves(4000, 2900)
    for a, b in zip(states_of(unchecked, wavs), states_of(checked, wavs), strict=True):
        assert torch.equal(a, b)


def test_everything_is_restored_after_another_error(probe):
    expert = make_expert("wavlm-base", "le")

    def broken(x):
        np.random.rand(), random.random(), torch.rand(1)
        raise RuntimeError("broken adapter")

    expert.l_adapters["2"].forward = broken
    before = snapshot(expert)
    states = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    with pytest.raises(RuntimeError, match="broken adapter"):
        self_check(expert, probe)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[2], random.getstate()) == states[1:]
    assert not changed(expert, before) and expert.enabled


def test_a_backbone_that_gives_nan_is_not_called_our_fault():
    stock = stock_expert("wavlm-base")
    with torch.no_grad():
        next(p for name, p in stock.named_parameters() if name.endswith("fc1.weight"))[0, 0] = float("nan")
    with pytest.raises(ElpError, match=r"hidden states .* are not finite, .*its checkpoint is damaged"):
        Probe(stock)
