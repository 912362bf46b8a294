"""What bottlenecks and shifts add at init ``reference``, site by site; the laws bound the effect on the output."""

import math

import pytest

from tests.experts import CONFIGS, make_expert, states_of, waves
from tests.toys import LAW_BACKBONES
from upstream_elp.adapters.adapter_bias import FrameShift
from upstream_elp.adapters.config import load_config
from upstream_elp.adapters.networks import BERT_STD, REFERENCE_STD, PlainBottleneck

pytestmark = [
    pytest.mark.parametrize("backbone", LAW_BACKBONES),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),
]
WAVS = waves(2900, 4000)


def _cases(*names):
    """Cases of the laws with one of these methods, and without any method of init ``zero``."""
    configs = {case: load_config(raw).methods for case, raw in CONFIGS.items()}
    fitting = {case: methods for case, methods in configs.items() if methods.keys() & set(names)}
    inits = {case: [getattr(method, "init", None) for method in methods.values()] for case, methods in fitting.items()}
    return [case for case in fitting if "zero" not in inits[case]]


@pytest.mark.parametrize("config", _cases("e_adapter"))
def test_e_adapters_add_little(config, backbone):
    """At init ``reference`` a bottleneck adds LN(z) with |LN(z)| <= |z| / sqrt(eps), and z is two N(0, 1e-3) maps.

    The maps multiply a root mean square by about 1e-3 sqrt(fan-in) each, and GELU and ReLU shrink it; 2 is for spread.
    """
    expert = make_expert(backbone, config).requires_grad_(False)
    ratios = {}

    def note(path):
        def hook(module, args, output):
            added = (output - args[0]).square().mean().sqrt() / args[0].square().mean().sqrt()
            ratios[path] = (float(added), module.down.in_features * module.down.out_features)

        return expert.get_submodule(path).register_forward_hook(hook)

    handles = [note(path) for path in expert.injection.sites if path.endswith("e_adapter")]
    states_of(expert, WAVS)
    for handle in handles:
        handle.remove()
    assert ratios and len(ratios) == len(handles)
    for path, (ratio, fan) in ratios.items():
        assert 0 < ratio < 2 * REFERENCE_STD**2 * math.sqrt(fan) / math.sqrt(1e-5), path


@pytest.mark.parametrize("config", _cases("houlsby", "adapter_bias"))
def test_bottlenecks_and_shifts_add_little(config, backbone):
    """At init ``reference`` Houlsby's bottleneck is two N(0, 0.02) maps, AdapterBias's alpha is one.

    The frames are alike, so alpha's one output is about one draw of a normal number: 4 standard deviations are allowed.
    """
    expert = make_expert(backbone, config).requires_grad_(False)
    ratios = []

    def note(module, args, output):
        ratio = float(output.square().mean().sqrt() / args[0].square().mean().sqrt())
        ratios.append((ratio, (4 if module.out_features == 1 else 2) * BERT_STD * math.sqrt(module.in_features)))

    sites = [expert.get_submodule(path) for path in expert.injection.sites]
    bottlenecks = [module for module in sites if type(module) is PlainBottleneck]
    maps = [linear for module in bottlenecks for linear in (module.down, module.up)]
    maps += [module.alpha for module in sites if isinstance(module, FrameShift)]
    handles = [linear.register_forward_hook(note) for linear in maps]
    states_of(expert, WAVS)
    for handle in handles:
        handle.remove()
    assert ratios and len(ratios) == len(maps)
    assert all(0 < ratio < limit for ratio, limit in ratios)
