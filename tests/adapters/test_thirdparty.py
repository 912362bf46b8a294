"""A method from another package: found by its entry point, injected, trained, saved, taken out."""

import sys
import textwrap

import pytest
import torch

from tests.experts import make_expert, stock_expert
from upstream_elp.adapters import registry
from upstream_elp.adapters.config import load_config
from upstream_elp.base.errors import ElpError
from upstream_elp.training.optimizers import parameter_groups
from upstream_elp.upstream.inject import eject

# the example of the README: a learned gain per channel on the FFN's output
SCALE = """
from dataclasses import dataclass

import torch
from torch import nn

from upstream_elp.adapters.primitives import output_site
from upstream_elp.adapters.selection import resolve_layers


class Gain(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.gain


@dataclass(frozen=True)
class Scale:
    layers: str | int | list[int] = "all"

    def check(self, layers, dim, *, where):
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model):
        return len(resolve_layers(self.layers, model.layers)) * model.dim

    def inject(self, target):
        for index in target.select(self.layers):
            site = output_site(target.layer(index), target.family.ffn_output)
            site.adapters["scale"] = Gain(target.dim)
            path = f"{target.layer_path(index)}.{target.family.ffn_output}.adapters.scale"
            target.declare_module("scale", str(index), path)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with one module and one entry point; returns a function that does it."""

    def forget():
        registry._entries.cache_clear()
        registry.method_class.cache_clear()
        sys.modules.pop("elp_scale", None)

    def install(code=SCALE, entry="scale = elp_scale:Scale"):
        (tmp_path / "elp_scale.py").write_text(textwrap.dedent(code))
        info = tmp_path / "elp_scale-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elp-scale\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry}\n")
        forget()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    forget()


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


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        (SCALE, "lora = elp_scale:Scale", "takes a taken name"),
        (SCALE, "scale = elp_scale:Missing", "cannot be imported"),
        ("class Scale: pass", "scale = elp_scale:Scale", "has no check, count, inject"),
    ],
)
def test_a_broken_package_is_one_sentence(package, code, entry, message):
    package(code, entry)
    with pytest.raises(ElpError, match=message):
        load_config({"features": "layers", "scale": {}})


def test_a_package_is_imported_only_when_it_is_named(package):
    package()
    load_config("elp")
    assert "elp_scale" not in sys.modules
