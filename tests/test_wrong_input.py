"""Every wrong input, wherever it can be given: one clear sentence, exit status 2, no code run, nothing half-made."""

import argparse
import os
import pickle
import sys

import pytest

from tests import toy_corpora
from tests.toys import tiny_backbone
from upstream_elp import cli, hubconf
from upstream_elp import run as runner
from upstream_elp.build import adapter_folder_of, build_upstream
from upstream_elp.checkpoint import write_adapter_folder
from upstream_elp.errors import ElpError

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
MARK = "bomb-went-off"


class Bomb:
    """What a pickle runs when it is loaded without care."""

    def __reduce__(self):
        return os.mkdir, (MARK,)


OBJECT = f"!!python/object/apply:os.mkdir ['{MARK}']"
TAGGED = f"features: last\nlora: {{rank: {OBJECT}}}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A backbone, two others, a corpus, a trained adapter folder and a training checkpoint; nobody changes them."""
    root = tmp_path_factory.mktemp("world")
    toy_corpora.fluent_speech_commands(root / "data")
    backbone = str(tiny_backbone())
    expert = build_upstream(None, ckpt=backbone, model_config="lora_qv8")
    write_adapter_folder(root / "adapter", adapter_folder_of(expert))
    args = argparse.Namespace(upstream="elp_local", upstream_ckpt=backbone, upstream_model_config="lora_qv8")
    states = {"Args": args, "Config": {}, "Step": 1, "Upstream": expert.state_dict()}
    return {
        "data": str(root / "data"),
        "backbone": backbone,
        "seed": str(tiny_backbone(None, "wavlm", seed=9)),
        "hubert": str(tiny_backbone(None, "hubert")),
        "adapter": root / "adapter",
        "states": states,
    }


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working folder, so that a payload's mark would be seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELP_BACKBONE", raising=False)
    monkeypatch.setattr(runner, "adopt_main", lambda: None)
    return tmp_path


def refused(words, message, place, monkeypatch, capfd):
    """Give ``elp`` the words; exit status 2, one sentence at the end that has the message, and nothing was made."""
    monkeypatch.setattr(sys, "argv", ["elp", *map(str, words)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capfd.readouterr()
    lines = [line for line in told.err.splitlines() if line.strip()]
    assert stop.value.code == 2
    assert lines[-1].startswith("elp: error: ") and sum("elp: error: " in line for line in lines) == 1, told.err
    assert message in lines[-1], lines[-1]
    assert "Traceback" not in told.err + told.out and len(lines[-1]) < 1000
    assert not (place / MARK).exists()
    assert not (place / "out").exists() and not list(place.glob("exp/*.ckpt"))


def training(world, *more):
    return [
        "run",
        "-m",
        "train",
        "-u",
        "elp_local",
        "-d",
        "elp_ic",
        "-p",
        "exp",
        "--device",
        "cpu",
        "--data",
        world["data"],
        *more,
    ]


# --- adapter configurations: a preset's name, or a YAML file --------------------------------------------------------

CONFIGS = {
    "no preset": (None, "no adapter preset or file 'wrong.yaml'; the presets are: adapterbias"),
    "base": ("base: elpp", "unknown base 'elpp'; the presets are"),
    "base that climbs": ("base: ../adapters/elp", "unknown base '../adapters/elp'; the presets are"),
    "absolute base": ("base: /etc/passwd", "unknown base '/etc/passwd'; the presets are"),
    "method": ("features: last\nloar: {}", "unknown key 'loar'; the valid keys are"),
    "key": ("features: last\nlora: {rnak: 3}", "lora: unknown key 'rnak'; the valid keys are: layers, targets, rank"),
    "layers": ('features: last\nlora: {layers: "0-40"}', "lora.layers: '0-40' selects layer"),
    "endless layers": ('features: last\nlora: {layers: "0-99999999999"}', "lora.layers: '0-99999999999' selects layer"),
    "rank": ("features: last\nlora: {rank: 0}", "lora.rank must be at least 1, got 0"),
    "negative rank": ("features: last\nlora: {rank: -4}", "lora.rank must be at least 1, got -4"),
    "rank of a layer": ("features: last\nlora: {rank: {0: 2, 1-2: 0}}", "lora.rank[1-2] must be at least 1, got 0"),
    "two sizes": (
        "features: last\nlora: {rank: {all: 2, 1: 3}}",
        "lora.rank gives layer 1 two sizes, in 'all' and in '1'",
    ),
    "bottleneck": (
        "base: e_only\ne_adapter: {bottleneck: 0}",
        "e_adapter.bottleneck: the size must be positive, got 0",
    ),
    "negative bottleneck": (
        "base: parallel\nparallel: {bottleneck: -8}",
        "parallel.bottleneck: the size must be positive",
    ),
    "site": ("base: e_only\ne_adapter: {sites: [cross]}", "e_adapter.sites must be one of attention, ffn, got 'cross'"),
    "weight": (
        "features: last\nlora: {targets: [gate]}",
        "lora.targets must be one of q, k, v, out, fc1, fc2, got 'gate'",
    ),
    "block": ("features: last\ncnn: {layers: 7}", "cnn.layers: 7 selects layer 7, but the model has the layers 0-6"),
    "key twice": ("features: last\nlora: {rank: 2}\nlora: {rank: 4}", "line 3, the key 'lora' stands twice"),
    "object": (
        OBJECT,
        "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.mkdir'",
    ),
    "object inside": (TAGGED, "is not a readable YAML file: line 2, could not determine a constructor"),
    "name of code": (
        "!!python/name:os.system",
        "is not a readable YAML file: line 1, could not determine a constructor",
    ),
    "impossible date": (
        "features: last\nlora: {rank: 2024-13-45}",
        "is not a readable YAML file: month must be in 1..12",
    ),
    "deep": ("[" * 5000, "is not a readable YAML file: it is nested too deeply"),
    "pickle": (pickle.dumps(Bomb()), "is not a readable YAML file"),
}


@pytest.mark.parametrize("how", ["params", "run", "Python"])
@pytest.mark.parametrize("case", CONFIGS)
def test_wrong_configurations(case, how, world, place, monkeypatch, capfd):
    content, message = CONFIGS[case]
    if content is not None:
        (place / "wrong.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    if how == "Python":
        with pytest.raises(ElpError) as caught:
            hubconf.elp_local(world["backbone"], model_config="wrong.yaml")
        assert message in str(caught.value) and "\n" not in str(caught.value)
        assert not (place / MARK).exists()
        return
    run = training(world, "-k", world["backbone"], "-g", "wrong.yaml")
    refused(["params", "--adapter", "wrong.yaml"] if how == "params" else run, message, place, monkeypatch, capfd)


@pytest.mark.parametrize("name", ["../adapters/elp", "../../../etc/passwd", "elp/../elp", "x" * 5000, "."])
def test_names_of_presets_do_not_climb(name, world, place, monkeypatch, capfd):
    message = f"no adapter preset or file {name[:20]!r}"[:-1]
    refused(["presets", name], message, place, monkeypatch, capfd)
    refused(training(world, "-k", world["backbone"], "-g", name), message, place, monkeypatch, capfd)
