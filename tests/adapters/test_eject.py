"""Taking adapters out gives back the backbone that was loaded: same modules, keys, tensors and outputs."""

import copy

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from tests.experts import CONFIGS, make_expert, stock_expert
from tests.toys import LAW_BACKBONES
from upstream_elp.adapters.config import load_config
from upstream_elp.adapters.injection import qualified_name
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.inject import eject


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_ejected_is_the_plain_backbone(backbone, config, law):
    plain = stock_expert(backbone)
    if any(method.in_place for method in load_config(CONFIGS[config]).methods.values()):
        law("detached", refused="the backbone is trained in place, so that its plain weights are gone")
        with pytest.raises(ElpError, match="in place"):
            eject(make_expert(backbone, config))
        return
    ejected = eject(make_expert(backbone, config, noise=0.5))
    assert _types(ejected) == _types(plain)
    state, expected = ejected.state_dict(), plain.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    waves = [torch.randn(5000), torch.randn(4100)]
    with torch.no_grad():
        for ours, theirs in zip(ejected(waves)["hidden_states"], plain(waves)["hidden_states"], strict=True):
            assert torch.equal(ours, theirs)
    law("detached")


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
def test_gradient_checkpointing_is_taken_out_too(backbone):
    expert = make_expert(backbone, "prefixes-together")
    expert.checkpoint_layers()
    assert _types(eject(expert)) == _types(stock_expert(backbone))


@pytest.mark.parametrize("config", ["elp", "parallel-zero-with-others", "prefixes-together", "many-methods"])
def test_a_copy_is_ejected_and_the_original_stays(config):
    expert = make_expert("wavlm-base", config, noise=0.5)
    waves = [torch.randn(5000), torch.randn(4100)]
    with torch.no_grad():
        before = expert(waves)["last_hidden_state"]
        ejected = eject(copy.deepcopy(expert))
        assert torch.equal(ejected(waves)["hidden_states"][-1], stock_expert()(waves)["hidden_states"][-1])
        assert torch.equal(expert(waves)["last_hidden_state"], before)
    assert not {id(module) for module in ejected.modules()} & {id(module) for module in expert.modules()}
    assert _types(eject(expert)) == _types(ejected)


def _types(module):
    """Names and types; a parametrized module has a class of its own, so names are compared."""
    parts = module.named_modules()
    return [(name, qualified_name(part) if is_parametrized(part) else type(part)) for name, part in parts]
