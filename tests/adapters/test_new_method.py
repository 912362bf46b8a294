"""A new method is one file: the example in ``docs/adding-a-method.md``, and faulty variants of it."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner

from tests import third_party
from tests.experts import add_noise, at_defaults, backbone_path, equal, make_expert, states_of, waves
from tests.third_party import SCALE
from tests.toys import BACKBONES, SHARED
from upstream_elp.adapters.config import load_config
from upstream_elp.backbones.architecture import Architecture
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.training.optimizers import parameter_groups
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.counting import count_parameters
from upstream_elp.upstream.transfer import adapter_folder_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
WAVS = waves(2900, 4000)


def block(language: str) -> str:
    """Return the only block of code in a language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return found


def entry() -> str:
    """The entry point on the page, as pip stores it."""
    (line,) = [line for line in block("toml").splitlines() if "=" in line]
    return line.replace('"', "")


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """The installed method of the page, and the path of its YAML file."""
    monkeypatch.syspath_prepend(tmp_path)
    third_party.install(tmp_path, block("python"), entry())
    file = tmp_path / "scale_shift.yaml"
    file.write_text(block("yaml"))
    yield file
    third_party.forget("elp_scale_shift")


def test_the_example_is_short():
    assert len(block("python").splitlines()) < 80


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in SHARED])
def test_it_is_injected_checked_and_counted(preset, backbone):
    config = load_config(preset)
    assert config == load_config(config.to_dict())
    expert = make_expert(backbone, config.to_dict(), check=True)
    family, pre_norm, _ = BACKBONES[backbone]
    toy = Architecture("toy", family, 3, 32, 128, 4, "group", False, pre_norm)
    assert count_parameters(config, toy)["trainable"]["scale_shift"] == 3 * 2 * 2 * 32
    assert expert.injection.counts(expert) == {"scale_shift": 3 * 2 * 2 * 32}
    (groups,) = [g for g in parameter_groups([expert], 1e-3, {"scale_shift": 1e-5}) if g["name"] == "scale_shift"]
    assert groups["lr"] == 1e-5 and len(groups["params"]) == 3 * 2 * 2


def test_it_is_saved_and_loaded(preset, tmp_path):
    expert = make_expert("hubert-base", load_config(preset).to_dict())
    add_noise(expert)
    folder = write_adapter_folder(tmp_path / "folder", adapter_folder_of(expert))
    again = build_upstream(None, ckpt=folder, backbone=backbone_path("hubert-base")).eval()
    assert set(again.state_dict()) - {"elp_backbone_sha256"} == {
        f"scale_shift.{layer}.{site}.{key}"
        for layer in range(3) for site in ("attention", "ffn") for key in ("scale", "shift")
    }  # fmt: skip
    assert equal(states_of(again, WAVS), states_of(expert, WAVS))


def test_the_commands_know_it(preset):
    shown = CliRunner().invoke(group, ["presets", str(preset)], catch_exceptions=False).output
    assert "name: scale_shift" in shown and "init_std: 0.02" in shown
    counted = CliRunner().invoke(group, ["params", "-g", str(preset)], catch_exceptions=False).output
    assert "scale_shift 36,864" in counted  # 12 layers, 2 sites, 2 x 768
    listed = CliRunner().invoke(group, ["backbones"], catch_exceptions=False).output
    assert "scale_shift" in listed


def test_its_mistakes_are_named(preset):
    for options, message in (
        ({"init_std": -1}, r"scale_shift\.init_std must be finite and not negative"),
        ({"sites": ["cnn"]}, r"scale_shift\.sites must be one of attention, ffn"),
        ({"scale": 1}, r"scale_shift: unknown key 'scale'; the valid keys are: layers, sites, init_std"),
    ):
        with pytest.raises(ElpError, match=message):
            load_config({"features": "layers", "scale_shift": options})
    with pytest.raises(ElpError, match=r"scale_shift\.layers: '3' selects layer 3"):
        make_expert(config={"features": "layers", "scale_shift": {"layers": "3"}})


def test_its_formula(preset):
    expert = make_expert("hubert-base", at_defaults("scale_shift"), noise=0.1)
    site = expert.backbone.model.encoder.layers[1].dropout3
    tensors = expert.injection.parameters(expert)
    y = torch.randn(5, 2, 32)
    wanted = tensors["scale_shift.1.ffn.scale"] * y + tensors["scale_shift.1.ffn.shift"]
    assert torch.equal(site(y), wanted) and torch.equal(site.dropout(y), y)


LIAR = SCALE.replace("torch.ones(dim)", "torch.full((dim,), 1.5)").replace("scale", "liar")
"""It moves the hidden states from the start and does not say so."""
LAWS = (
    "tests/upstream/test_laws_switching.py", "tests/upstream/test_laws_training.py", "tests/adapters/test_eject.py",
    "tests/backbones/test_architecture.py", "tests/upstream/test_selfcheck.py",
)  # fmt: skip


def test_the_laws_run_over_every_registered_method(tmp_path):
    """Run in a separate process, like a user's own run of the tests, where no method is named."""
    third_party.install(tmp_path, block("python"), entry())
    third_party.install(tmp_path, SCALE, "scale = elp_scale:Scale")
    third_party.install(tmp_path, LIAR, "liar = elp_liar:Scale")
    report = tmp_path / "report.xml"
    places = ("wavlm-base", "hubert-base")
    chosen = f"(scale or liar) and ({' or '.join(places)})"
    words = [*LAWS, "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-k", chosen]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 1, done.stdout.decode()[-3000:]
    passed, failed = Counter(), Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, arguments = case.attrib["name"].partition("[")
        method = next(name for name in ("scale_shift", "scale", "liar") if f"{name}-defaults" in arguments)
        fine = case.find("failure") is None and case.find("error") is None
        (passed if fine else failed).update([(method, test)])
    assert failed == {("liar", "test_identity_at_init"): len(places)}
    laws = {test for _, test in passed}
    assert len(laws) >= 14 and {"test_identity_at_init", "test_off_is_the_plain_backbone"} <= laws
    assert {(method, test) for method in ("scale_shift", "scale") for test in laws} == {
        key for key in passed if key[0] != "liar"
    }
    assert passed["scale", "test_deep_copy_is_independent"] == len(places)
