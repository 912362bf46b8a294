"""A method from another package: found by its entry point, injected, trained, saved, removed."""

import sys

import pytest
import torch

from tests import third_party
from tests.experts import at_defaults, catalogue, make_expert, stock_expert
from tests.third_party import SCALE
from upstream_elp.adapters.config import load_config
from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.registry import method_class, method_names
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.base.errors import ElpError
from upstream_elp.training.optimizers import parameter_groups
from upstream_elp.upstream.inject import eject


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that installs a package with one module and one entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda code=SCALE, entry="scale = elp_scale:Scale": third_party.install(tmp_path, code, entry)
    third_party.forget("elp_scale")


def test_a_method_of_another_package_is_a_method_like_ours(package):
    package()
    config = load_config({"features": "layers", "scale": {"layers": "top:2"}, "lora": {"targets": ["q"], "rank": 2}})
    assert list(config.methods) == ["lora", "scale"]
    expert = make_expert(config=config.to_dict(), check=True)
    assert expert.injection.counts(expert)["scale"] == 2 * 32
    waves = [torch.randn(4000)]
    plain = stock_expert()
    with torch.no_grad():
        before = expert(waves)["last_hidden_state"]
        assert torch.equal(before, plain(waves)["hidden_states"][-1]), "a gain of one is an identity"
        expert.injection.parameters(expert)["scale.2.gain"].mul_(2)
        assert not torch.equal(expert(waves)["last_hidden_state"], before)
    assert {"scale.1.gain", "scale.2.gain"} <= set(expert.state_dict())
    groups = {group["name"]: group["lr"] for group in parameter_groups([expert], 1e-3, {"scale": 1e-5})}
    assert groups["scale"] == 1e-5
    with torch.no_grad():
        assert torch.equal(eject(expert)(waves)["hidden_states"][-1], before)


def test_strictness_holds_for_it_too(package):
    package()
    with pytest.raises(ElpError, match=r"unknown key 'layer' \(did you mean layers\?\); the valid keys are: layers"):
        load_config({"features": "layers", "scale": {"layer": 1}})
    with pytest.raises(ElpError, match=r"scale\.layers"):
        make_expert(config={"features": "layers", "scale": {"layers": 9}})


HALF = """
from dataclasses import dataclass

from upstream_elp.adapters.kinds import PerLayer


@dataclass(frozen=True)
class Scale(PerLayer):
    def inject(self, target):
        pass
"""


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        (SCALE, "lora = elp_scale:Scale", "has a name that is taken"),
        (SCALE, "encoder = elp_scale:Scale", "has a name that is taken"),
        (SCALE, "scale = elp_scale:Missing", "cannot be imported"),
        (SCALE, "scale = elp_scale.deep:Scale", "cannot be imported"),
        ("class Scale: pass", "scale = elp_scale:Scale", "does not define check, count, inject"),
        ("def Scale(): pass", "scale = elp_scale:Scale", "does not define check, count, inject"),
        (HALF, "scale = elp_scale:Scale", r"\(elp_scale:Scale\) does not define count$"),
        (SCALE.replace("@dataclass(frozen=True)", ""), "scale = elp_scale:Scale", "is not a dataclass"),
        (SCALE + "\nSCALE = Scale()", "scale = elp_scale:SCALE", "is not a dataclass"),
    ],
)
def test_a_broken_package_is_one_sentence(package, code, entry, message):
    package(code, entry)
    with pytest.raises(ElpError, match=message):
        load_config({"features": "layers", "scale": {}})


def test_what_a_class_does_not_say_has_the_contracts_defaults(package):
    package()
    method = load_config(at_defaults("scale")).methods["scale"]
    assert isinstance(method, Method) and type(method) is method_class("scale")
    assert not (method.mergeable or method.in_place or method.conflicts or method.zero_gradients(FAMILIES["wavlm"]))
    assert method.moves_at_init == 0
    assert (type(method).__module__, type(method).__qualname__) == ("elp_scale", "Scale")


@pytest.mark.parametrize("other", ["lora", "encoder"])
def test_its_conflicts_count_in_both_orders(package, other):
    conflicts = f'conflicts = {{"{other}": "one is enough"}}\n    layers: str'
    package(SCALE.replace("layers: str", conflicts))
    for methods in ({"scale": {}, other: {}}, {other: {}, "scale": {}}):
        with pytest.raises(ElpError, match=f"scale and {other} cannot be combined: one is enough"):
            load_config({"features": "layers", **methods})


def test_what_trains_the_rest_of_the_backbone_comes_after_it(package):
    package()
    assert method_names()[-2:] == ["scale", "encoder"]
    expert = make_expert(config={"features": "last", "encoder": {}, "scale": {}}, check=True)
    components = [item.component for item in expert.injection.declared.values()]
    assert components == ["scale"] * 3 + ["encoder"] * (len(components) - 3) and len(components) > 3


def test_it_is_in_the_catalogue_of_the_laws(package):
    before = catalogue()
    assert "scale" not in {method for case in before.values() for method in case}
    package()
    assert catalogue() == {**before, "scale-defaults": {"features": "layers", "scale": {}}}


def test_a_package_is_imported_only_when_it_is_named(package):
    package()
    load_config("elp")
    assert "elp_scale" not in sys.modules
