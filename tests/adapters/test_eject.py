"""Taking adapters out gives back the backbone that was loaded: same modules, keys, tensors and outputs."""

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


def _types(module):
    """Names and types; a parametrized module's class is made for it alone, so its name is compared."""
    parts = module.named_modules()
    return [(name, qualified_name(part) if is_parametrized(part) else type(part)) for name, part in parts]
