"""Wrong inputs of every kind: one clear sentence, exit status 2, no code is run, nothing is left half-written."""

import argparse
import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from downstream_heads import registry
from tests import toy_corpora
from tests.bombs import MARK, OBJECT, Bomb
from tests.damage import Files
from tests.experts import changed, snapshot, stock_expert
from tests.toys import tiny_backbone
from upstream_elp import cli
from upstream_elp.adapters.config import load_config
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.backbones.family import LAYER_SITES
from upstream_elp.base.errors import ElpError
from upstream_elp.launch import start
from upstream_elp.upstream import hubconf
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, TENSOR_FILE, write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.state_dict import META
from upstream_elp.upstream.transfer import adapter_folder_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


TAGGED = f"features: last\nlora: {{rank: {OBJECT}}}"


@pytest.mark.parametrize("load", [lambda: pickle.loads(pickle.dumps(Bomb())), lambda: yaml.unsafe_load(OBJECT)])
def test_the_payloads_go_off_where_nothing_holds_them(load, place):
    load()
    assert (place / MARK).exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make a backbone, two others, a corpus, an adapter folder and a checkpoint; tests must not change them."""
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
    """Make an empty working folder, in which a payload's mark would be noticed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELP_BACKBONE", raising=False)
    monkeypatch.setattr(start, "adopt_main", lambda: None)
    return tmp_path


def refused(words, message, place, monkeypatch, capfd):
    """Check that ``elp`` with these words ends with status 2 and one sentence with the message, and writes nothing."""
    monkeypatch.setattr(sys, "argv", ["elp", *map(str, words)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    output = capfd.readouterr()
    lines = [line for line in output.err.splitlines() if line.strip()]
    assert stop.value.code == 2
    assert lines[-1].startswith("elp: error: ") and sum("elp: error: " in line for line in lines) == 1, output.err
    assert message in lines[-1], lines[-1]
    assert "Traceback" not in output.err + output.out
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
    "base": ("base: elpp", "unknown base 'elpp' (did you mean elp?); the presets are"),
    "base that climbs": ("base: ../adapters/elp", "unknown base '../adapters/elp' ("),
    "absolute base": ("base: /etc/passwd", "unknown base '/etc/passwd'; the presets are"),
    "method": ("features: last\nloar: {}", "unknown key 'loar' (did you mean lora?); the valid keys are"),
    "key": ("features: last\nlora: {rnak: 3}", "lora: unknown key 'rnak' (did you mean rank?); the valid"),
    "layers": ('features: last\nlora: {layers: "0-40"}', "lora.layers: '0-40' selects layer"),
    "endless layers": ('features: last\nlora: {layers: "0-99999999999"}', "lora.layers: '0-99999999999' selects layer"),
    "rank": ("features: last\nlora: {rank: 0}", "lora.rank must be at least 1, but is 0"),
    "negative rank": ("features: last\nlora: {rank: -4}", "lora.rank must be at least 1, but is -4"),
    "rank of a layer": ("features: last\nlora: {rank: {0: 2, 1-2: 0}}", "lora.rank[1-2] must be at least 1, but is 0"),
    "two sizes": (
        "features: last\nlora: {rank: {all: 2, 1: 3}}",
        "lora.rank has two sizes for layer 1, in 'all' and in '1'",
    ),
    "bottleneck": (
        "base: e_only\ne_adapter: {bottleneck: 0}",
        "e_adapter.bottleneck: the size must be positive, but is 0",
    ),
    "negative bottleneck": (
        "base: parallel\nparallel: {bottleneck: -8}",
        "parallel.bottleneck: the size must be positive",
    ),
    "site": (
        "base: e_only\ne_adapter: {sites: [cross]}",
        "e_adapter.sites must be one of attention, ffn, but is 'cross'",
    ),
    "weight": (
        "features: last\nlora: {targets: [gate]}",
        "lora.targets must be one of q, k, v, out, fc1, fc2, but is 'gate'",
    ),
    "block": ("features: last\ncnn: {layers: 7}", "cnn.layers: 7 selects layer 7, but the model has the layers 0-6"),
    "key twice": ("features: last\nlora: {rank: 2}\nlora: {rank: 4}", "line 3, the key 'lora' appears twice"),
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
    "deep": ("[" * 1000, "is not a readable YAML file: it is nested too deeply"),
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


# --- adapter folders ------------------------------------------------------------------------------------------------


ADAPTER = Files(CONFIG_FILE, TENSOR_FILE)
_config, _tensors, _bytes = ADAPTER.change_config, ADAPTER.change_tensors, ADAPTER.change_bytes


def _described_as(text):
    return lambda folder: (folder / CONFIG_FILE).write_text(text)


FIRST = "lora.0.q.down"
FOLDERS = {
    "truncated": (_bytes(lambda data: data[:-100]), "adapter.safetensors is not a readable safetensors file"),
    "header cut off": (_bytes(lambda data: data[:30]), "adapter.safetensors is not a readable safetensors file"),
    "empty": (_bytes(lambda data: b""), "adapter.safetensors is not a readable safetensors file"),
    "one bit": (
        _bytes(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        "adapter.safetensors is damaged or was changed",
    ),
    "longer": (_bytes(lambda data: data + b"more"), "adapter.safetensors is not a readable safetensors file"),
    "pickle": (_bytes(lambda data: pickle.dumps(Bomb())), "adapter.safetensors is not a readable safetensors file"),
    "torch.save": (lambda f: torch.save(Bomb(), f / TENSOR_FILE), "adapter.safetensors is not a readable safetensors"),
    "no tensors": (
        lambda f: (f / TENSOR_FILE).unlink(),
        "has no adapter.safetensors; copy or export the adapter again",
    ),
    "folder as tensors": (
        lambda f: [(f / TENSOR_FILE).unlink(), (f / TENSOR_FILE).mkdir()],
        "has no adapter.safetensors",
    ),
    "tensor missing": (_tensors(lambda t: {k: v for k, v in t.items() if k != FIRST}), f"lacks tensors {FIRST}"),
    "tensor that climbs": (_tensors(lambda t: {**t, "../../x": t[FIRST] + 0}), "contains the unknown tensors ../../x:"),
    "control characters": (_tensors(lambda t: {**t, "\x1b[2J\nx": t[FIRST] + 0}), "the unknown tensors \\x1b[2J x:"),
    "frozen tensor": (
        _tensors(lambda t: {**t, "backbone.model.mask_emb": torch.zeros(32)}),
        "contains the unknown tensors backbone.model.mask_emb:",
    ),
    "shape": (_tensors(lambda t: {**t, FIRST: torch.zeros(2, 2)}), f"{FIRST} has the shape (2, 2), but this"),
    "kind": (_tensors(lambda t: {**t, FIRST: t[FIRST].int()}), f"{FIRST} does not contain floating-point numbers"),
    "object": (_described_as(OBJECT), "adapter_config.yaml is not a readable YAML file: line 1, could not determine"),
    "object inside": (_described_as(f"adapter:\n  lora: {OBJECT}"), "readable YAML file: line 2, could not determine"),
    "object as key": (_described_as(f"? {OBJECT}\n: 1"), "readable YAML file: line 1, could not determine"),
    "key twice": (_described_as("adapter: {}\nadapter: {}"), "line 2, the key 'adapter' appears twice"),
    "pickle as YAML": (lambda f: (f / CONFIG_FILE).write_bytes(pickle.dumps(Bomb())), "is not a readable YAML file"),
    "key": (_config(lambda raw: raw.update(more=1)), "unknown key 'more'; the valid keys are: format_version"),
    "version": (_config(lambda raw: raw.update(format_version=9)), "format_version must be 1, but is 9"),
    "adapter key": (_config(lambda raw: raw["adapter"]["lora"].update(rnak=3)), "lora: unknown key 'rnak' (did you"),
    "adapter base": (
        _config(lambda raw: raw["adapter"].update(base="../elp")),
        "unknown base '../elp' (did you mean elp?); the presets are",
    ),
    "layers": (_config(lambda raw: raw["adapter"]["lora"].update(layers="3")), "lora.layers: '3' selects layer 3, but"),
    "rank": (_config(lambda raw: raw["adapter"]["lora"].update(rank=0)), "lora.rank must be at least 1, but is 0"),
    "another rank": (_config(lambda raw: raw["adapter"]["lora"].update(rank=4)), "has the shape (8, 32), but this"),
    "another site": (_config(lambda raw: raw["adapter"]["lora"].update(targets=["k"])), "lacks tensors lora.0.k.down"),
    "backbone": (
        _config(lambda raw: raw["backbone"]["fingerprint"].update(sha256="0" * 64, structure="x")),
        "was trained on another backbone (a local checkpoint, sha256 000000000000; this one has",
    ),
}


@pytest.mark.parametrize("how", ["run", "merge", "Python"])
@pytest.mark.parametrize("case", FOLDERS)
def test_wrong_adapter_folders(case, how, world, place, monkeypatch, capfd):
    damage, message = FOLDERS[case]
    shutil.copytree(world["adapter"], place / "adapter")
    damage(place / "adapter")
    if how == "Python":
        with pytest.raises(ElpError) as caught:
            hubconf.elp_local("adapter", backbone=world["backbone"])
        assert case == "control characters" or message in str(caught.value)
        assert not (place / MARK).exists()
        return
    words = ["merge", "adapter", "out", "--backbone", world["backbone"]]
    run = training(world, "-k", "adapter", "--backbone", world["backbone"])
    refused(words if how == "merge" else run, message, place, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("upstream", "backbone", "message"),
    [
        ("elp_local", "seed", "was trained on another backbone (a local checkpoint, sha256"),
        ("elp_local", "hubert", "was trained on another backbone (a local checkpoint, sha256"),
        ("elp_hubert_base", "hubert", "was trained on a wavlm backbone, but hubert_base is a hubert; use -u elp_local"),
        (
            "elp_wavlm_base",
            "hubert",
            "is a hubert checkpoint, but wavlm_base is a wavlm model; use -u elp_local, which",
        ),
        ("elp_local", "adapter", "is neither an adapter folder nor a backbone"),
        (
            "elp_local",
            None,
            "needs a local wavlm checkpoint: name it with --backbone PATH or ELP_BACKBONE",
        ),
    ],
)
def test_an_adapter_folder_with_the_wrong_backbone(upstream, backbone, message, world, place, monkeypatch, capfd):
    words = training(world, "-u", upstream, "-k", world["adapter"])
    if backbone == "adapter":
        (place / "folder").mkdir()
    given = "folder" if backbone == "adapter" else world[backbone] if backbone else None
    refused([*words, *(["--backbone", given] if given else [])], message, place, monkeypatch, capfd)
    if backbone in ("seed", "hubert") and upstream == "elp_local":
        advice = "pass the right one with --backbone PATH or $ELP_BACKBONE"
        refused([*words, "--backbone", given], advice, place, monkeypatch, capfd)
        refused(["merge", world["adapter"], "out", "--backbone", given], advice, place, monkeypatch, capfd)


NAMES = {
    "wavlm_huge": "unknown backbone 'wavlm_huge'; the backbones are: ",
    "elp_custom": "unknown backbone 'elp_custom'; the backbones are: ",
    "os": "unknown backbone 'os'; the backbones are: ",
    "__import__": "unknown backbone '__import__'; the backbones are: ",
    **dict.fromkeys(
        (
            "../backbone.pt", "/etc/passwd", "https://example.org/x.pt", "hf:../backbone", "hf:/etc/x", "hf:a/../../b",
            "hf:./x", "hf:a/b/c", "hf:.hidden", "x\ny", "",
        ),
        "adapter_config.yaml: backbone.name must be a name on ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_cannot_name_anything_as_its_backbone(name, world, place, monkeypatch, capfd):
    shutil.copytree(world["adapter"], place / "adapter")
    _config(lambda raw: raw["backbone"].update(name=name))(place / "adapter")
    refused(training(world, "-k", "adapter"), NAMES[name], place, monkeypatch, capfd)
    with pytest.raises(ElpError) as caught:
        hubconf.elp_local("adapter")
    assert NAMES[name] in str(caught.value)


# --- backbones and training checkpoints -----------------------------------------------------------------------------

FILES = {
    "text": (lambda p, _: p.write_text("hello"), "it was not written by torch.save"),
    "longer text": (lambda p, _: p.write_text("This is a text.\n" * 9), "it was not written by torch.save"),
    "YAML": (lambda p, _: p.write_text("base: elp\n"), "it was not written by torch.save"),
    "sound": (
        lambda p, _: toy_corpora.write_wav(p.with_suffix(".wav"), toy_corpora.tone()).rename(p),
        "it was not written by",
    ),
    "empty": (lambda p, _: p.write_bytes(b""), "it was not written by torch.save"),
    "truncated": (lambda p, good: p.write_bytes(good[: len(good) // 2]), "it is cut off or damaged"),
    "object": (
        lambda p, _: torch.save(Bomb(), p),
        f"it contains the Python object '{os.mkdir.__module__}.mkdir', and code",
    ),
    "object inside": (lambda p, _: torch.save({"Args": Bomb()}, p), "and code from a file is never run"),
    "old format": (
        lambda p, _: torch.save(Bomb(), p, _use_new_zipfile_serialization=False),
        "and code from a file is never run",
    ),
    "pickle": (lambda p, _: p.write_bytes(pickle.dumps(Bomb())), "can be loaded safely: it "),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_in_place_of_checkpoints(case, world, place, monkeypatch, capfd):
    make, message = FILES[case]
    torch.save(world["states"], place / "states-1.ckpt")
    for name, good in (("wrong.pt", Path(world["backbone"])), ("wrong.ckpt", place / "states-1.ckpt")):
        make(place / name, good.read_bytes())
    backbone, adapter = world["backbone"], world["adapter"]
    give_backbone = "pass a backbone in S3PRL's or fairseq's format, or a trained adapter folder"
    give_states = "name a training checkpoint (states-N.ckpt or *-best.ckpt)"
    for words, hint in (
        (training(world, "-k", "wrong.pt"), give_backbone),
        (training(world, "-k", adapter, "--backbone", "wrong.pt"), give_backbone),
        (["merge", adapter, "out", "--backbone", "wrong.pt"], give_backbone),
        (["export", "wrong.ckpt", "out"], give_states),
        (["merge", "wrong.ckpt", "out", "--backbone", backbone], give_states),
        (
            ["run", "-m", "evaluate", "-e", "wrong.ckpt", "--device", "cpu"],
            "name a states-*.ckpt",
        ),
        (training(world, "-k", backbone, "-i", "wrong.ckpt"), "name a states-*.ckpt with -i"),
    ):
        refused(words, f"; {hint}", place, monkeypatch, capfd)
        refused(words, message, place, monkeypatch, capfd)
    with pytest.raises(ElpError, match="is not a checkpoint that can be loaded safely"):
        hubconf.elp_local("wrong.pt")
    assert not (place / MARK).exists()


def _args(**changes):
    def change(states):
        for name, value in changes.items():
            setattr(states["Args"], name, value)

    return change


def _upstream(change):
    return lambda states: states.update(Upstream=change(states["Upstream"]))


STATES = {
    "no arguments": (lambda s: s.update(Args=None), "is not a training checkpoint, which has Args, Config and Step"),
    "key missing": (lambda s: s.pop("Step"), "is not a training checkpoint, which has Args, Config and Step"),
    "stock upstream": (
        _args(upstream="wavlm_local"),
        "was trained with the upstream wavlm_local, which has no adapters",
    ),
    "unknown upstream": (_args(upstream="elp_nope"), "-u elp_nope: no such name; "),
    "upstream that climbs": (_args(upstream="elp_../../x"), "-u elp_../../x: no such name; "),
    "unknown preset": (_args(upstream_model_config="elpp"), "no adapter preset or file 'elpp' (did you mean elp?)"),
    "preset that climbs": (_args(upstream_model_config="../elp"), "no adapter preset or file '../elp'"),
    "no backbone there": (
        _args(upstream_ckpt="gone.pt"),
        "was trained with -k gone.pt, which does not exist",
    ),
    "no adapters": (lambda s: s.pop("Upstream"), "does not contain adapters: it was trained without -f"),
    "not a mapping": (_upstream(lambda up: [1, 2]), "does not contain adapters"),
    "tensor missing": (_upstream(lambda up: {k: v for k, v in up.items() if k != FIRST}), f"lacks tensors {FIRST}"),
    "tensor that climbs": (_upstream(lambda up: {**up, "../x": up[FIRST]}), "contains the unknown tensors ../x:"),
    "shape": (_upstream(lambda up: {**up, FIRST: torch.zeros(2)}), f"{FIRST} has the shape (2,), but this"),
    "no tensor": (_upstream(lambda up: {**up, FIRST: "x"}), f"{FIRST} does not contain floating-point numbers"),
    "backbone": (
        _upstream(lambda up: {**up, META: up[META] + 1}),
        "were trained on another backbone (the fingerprints",
    ),
    "no fingerprint": (_upstream(lambda up: {**up, META: "x"}), "were trained on another backbone (the fingerprints"),
}


@pytest.mark.parametrize("command", ["export", "merge"])
@pytest.mark.parametrize("case", STATES)
def test_wrong_training_checkpoints(case, command, world, place, monkeypatch, capfd):
    change, message = STATES[case]
    states = {**world["states"], "Args": argparse.Namespace(**vars(world["states"]["Args"]))}
    change(states)
    torch.save(states, place / "states-1.ckpt")
    refused([command, "states-1.ckpt", "out"], message, place, monkeypatch, capfd)


RESUMED = {
    "no arguments": (
        lambda s: s.update(Args={}),
        "is not a checkpoint of run_downstream: its Args or Config are",
    ),
    "task": (_args(downstream="elp_sar"), "-d elp_sar: no such name; did you mean elp_asr"),
    "task that climbs": (_args(downstream="../elp_ic"), "-d ../elp_ic: no such name; "),
    "upstream": (_args(upstream="elp_nope"), "-u elp_nope: no such name; "),
    "no upstream": (_args(upstream=None), "is not a checkpoint of run_downstream: its Args or Config are"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_wrong_checkpoints_to_go_on_from(case, world, place, monkeypatch, capfd):
    change, message = RESUMED[case]
    args = {**vars(world["states"]["Args"]), "downstream": "elp_ic", "expdir": "exp", "local_rank": None}
    config = yaml.safe_load(registry.find("elp_ic").config.read_text())
    states = {**world["states"], "Optimizer": {}, "Args": argparse.Namespace(**args), "Config": config}
    change(states)
    torch.save(states, place / "states-1.ckpt")
    for mode in ("train", "evaluate"):
        words = ["run", "-m", mode, "-e", "states-1.ckpt", "--device", "cpu"]
        refused(words, message, place, monkeypatch, capfd)


def test_a_checkpoint_without_weights_initialises_nothing(world, place, monkeypatch, capfd):
    torch.save({"Args": 1}, place / "hollow.ckpt")
    words = training(world, "-k", world["backbone"], "-i", "hollow.ckpt")
    message = "-i hollow.ckpt is not a checkpoint of run_downstream, which has Upstream, Featurizer, Downstream"
    refused(words, message, place, monkeypatch, capfd)


# --- names on the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["params", "-u", "../wavlm_base"], "unknown backbone '../wavlm_base'; the backbones are:"),
        (["fetch", "../wavlm_base"], "unknown backbone '../wavlm_base'; the backbones are:"),
        (["run", "-m", "train", "-u", "elp_../x", "-d", "elp_ic", "-p", "exp"], "-u elp_../x: no such name"),
        (["run", "-m", "train", "-u", "fbank", "-d", "../elp_ic", "-p", "exp"], "-d ../elp_ic: no such name"),
        (["export", "nowhere", "out"], "nowhere: no such experiment folder or checkpoint"),
        (["export", "x" * 5000, "out"], "is too long for a file name"),
        (["merge", "nowhere", "out"], "nowhere: no such experiment folder or checkpoint"),
        (["quickstart", "--out", "out", "--methods", "../elp"], "no adapter preset or file '../elp'"),
        (["quickstart", "--out", "out", "--tasks", "../asr"], "unknown task '../asr'; the tasks are"),
        (["quickstart", "--out", "out", "--size", "Tiny"], "'Tiny' is not one of 'tiny', 'small', 'full'"),
        (["quickstart", "--out", "out", "--backbone", "gone.pt"], "--backbone gone.pt: no such checkpoint"),
        (["quickstart", "--out", "out", "--data", "gone"], "--data gone: no such folder"),
        (["mini-backbone", "out", "--family", "../x"], "'../x' is not one of 'wavlm', 'hubert', "),
        (["mini-backbone", "out", "--size", "huge"], "'huge' is not one of 'mini', 'base', 'large'"),
        (["mini-superb", "out", "--size", "huge"], "'huge' is not one of 'tiny', 'small', 'full'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_wrong_names(words, message, place, monkeypatch, capfd):
    refused(words, message, place, monkeypatch, capfd)


def test_a_run_with_a_name_that_is_too_long(world, place, monkeypatch, capfd):
    long = "x" * 5000
    for flag in ("-k", "-c", "-i", "-p", "--data", "--backbone"):
        words = [*training(world, "-k", world["backbone"]), flag, long]
        refused(words, "", place, monkeypatch, capfd)


def test_an_adapter_in_use_stays_as_it_was():
    expert = build_upstream(None, ckpt=str(tiny_backbone()), model_config="lora_qv8")
    before = snapshot(expert)
    for change in ({FIRST: torch.zeros(2)}, {"../x": torch.zeros(2)}, {META: torch.zeros(32, dtype=torch.uint8)}):
        with pytest.raises(ElpError):
            expert.load_state_dict({**expert.state_dict(), **change})
        assert not changed(expert, before) and not expert.trained


@pytest.mark.parametrize("site", LAYER_SITES)
@pytest.mark.parametrize("backbone", ["wavlm-base", "hf_wavlm-base"])
def test_a_site_that_the_model_lacks(site, backbone, monkeypatch):
    """As another version of S3PRL or transformers might do."""
    stock, name = stock_expert(backbone), backbone.split("-")[0]
    monkeypatch.setitem(FAMILIES, name, replace(FAMILIES[name], **{site: "moved"}))
    with pytest.raises(ElpError, match=rf"encoder layers of this {name} model have no {site} \(moved\); the sites of"):
        ElpExpert(stock, load_config("weighted_sum"), check=False)


# --- backbones in Hugging Face's format -----------------------------------------------------------------------------


def _model(**values):
    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **values}))

    return damage


def _weights(name, write):
    def damage(folder):
        (folder / "model.safetensors").unlink()
        write(folder / name)

    return damage


def _text(name, text):
    return lambda folder: (folder / name).write_text(text)


BIN = "pytorch_model.bin"
INDEX = "model.safetensors.index.json"
HUGGING_FACE = {
    "no JSON": (_text("config.json", "{"), "config.json is not a readable JSON file"),
    "deep JSON": (_text("config.json", "[" * 100_000), "config.json is not a readable JSON file"),
    "list": (_text("config.json", "[]"), "config.json must contain a JSON object"),
    "kind": (
        _model(model_type="bert"),
        "is a Hugging Face model of type 'bert', which is not supported; the types are: wav2vec2, hubert, wavlm",
    ),
    "no text": (
        _model(model_type=["wavlm"]),
        "a Hugging Face model of type ['wavlm'], which is not supported; the types",
    ),
    "no heads": (_model(num_attention_heads=0), "the model wrong cannot be loaded: "),
    "no width": (_model(hidden_size="x"), "the model wrong cannot be loaded: "),
    "more layers": (_model(num_hidden_layers=5), "the weights of wrong lack 38 tensors, such as encoder."),
    "no preprocessor": (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "the model wrong cannot be loaded: "),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:2000]),
        "the model wrong cannot be loaded: SafetensorError: ",
    ),
    "pickle": (
        lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb())),
        "cannot be loaded: SafetensorError",
    ),
    "object": (
        _weights(BIN, lambda p: torch.save(Bomb(), p)),
        "it contains the Python object 'posix.mkdir', and code",
    ),
    "raw pickle": (_weights(BIN, lambda p: p.write_bytes(pickle.dumps(Bomb()))), "the model wrong cannot be loaded: "),
    "text": (_weights(BIN, lambda p: p.write_text("base: elp")), "the model wrong cannot be loaded: "),
    "climbing shard": (
        _weights(
            INDEX, lambda p: p.write_text(json.dumps({"metadata": {}, "weight_map": {"x": "../../x.safetensors"}}))
        ),
        "model.safetensors.index.json names the file '../../x.safetensors', which is not in the folder",
    ),
}


@pytest.mark.parametrize("case", HUGGING_FACE)
def test_wrong_hugging_face_folders(case, world, place, monkeypatch, capfd):
    damage, message = HUGGING_FACE[case]
    shutil.copytree(tiny_backbone(None, "hf_wavlm"), place / "wrong")
    damage(place / "wrong")
    refused(training(world, "-k", "wrong"), message, place, monkeypatch, capfd)
    refused(training(world, "-k", world["adapter"], "--backbone", "wrong"), message, place, monkeypatch, capfd)
