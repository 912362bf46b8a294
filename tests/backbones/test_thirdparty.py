"""A family from another package: the example in docs/adding-a-backbone.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from tests.experts import add_noise, equal, snapshot, states_of, train_step, waves
from upstream_elp.backbones import families
from upstream_elp.backbones.backbone_file import read_backbone
from upstream_elp.backbones.shapes import TINY, BackboneShape
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.mini.backbone import write_backbone
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream, front_end
from upstream_elp.upstream.inject import eject
from upstream_elp.upstream.transfer import adapter_folder_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-a-backbone.md"
WAVS = waves(2900, 4000)
METHODS = (
    "e_only",
    "elp",
    "lora_qv8",
    "p_only",
    "prefix_kv",
    "deep_prompt",
    "cnn",
    "bitfit",
    "parallel",
    "adapterbias",
)


def blocks():
    """The page's blocks by the file name in their first line."""
    found = re.findall(r"```\w+\n# ([\w.]+)\n(.*?)```", PAGE.read_text(), flags=re.S)
    return dict(found)


def install(folder, *, entry=None, **modules):
    """Put the modules of the page and their entry point into a folder, like an installed package."""
    for name, text in {**{n: t for n, t in blocks().items() if n.endswith(".py")}, **modules}.items():
        (folder / name).write_text(text)
    info = folder / "toyformer-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toyformer\nVersion: 1.0\n")
    line = entry or re.search(r'^(\w+) = "(.*)"$', blocks()["pyproject.toml"], flags=re.M).expand(r"\1 = \2")
    (info / "entry_points.txt").write_text(f"[{families.GROUP}]\n{line}\n")


def forget():
    families.other_families.cache_clear()
    for name in ("toyformer", "toyformer_model"):
        sys.modules.pop(name, None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    install(place)
    forget()
    yield place
    forget()


@pytest.fixture
def checkpoint(package, tmp_path):
    return write_backbone(tmp_path / "toy.pt", family="toyformer", **{**TINY, "extractor_mode": "layer_norm"})


def test_its_checkpoint_is_recognised_and_described(checkpoint):
    found = read_backbone(checkpoint)
    assert found.family == "toyformer"
    assert (found.front.stride, found.front.min_samples) == (320, 400)
    assert front_end(None, str(checkpoint)) == found.front
    with pytest.raises(ElpError, match="is a toyformer checkpoint, and this format cannot be written"):
        _ = found.weights_key


@pytest.mark.parametrize("preset", METHODS)
def test_it_is_a_backbone_like_ours(checkpoint, preset, tmp_path):
    """It is injected with the self-check, trained, saved, loaded, switched off and removed."""
    upstream_elp.register()
    plain = read_backbone(checkpoint).expert().eval()
    before = states_of(plain, WAVS)
    torch.manual_seed(0)
    expert = build_upstream(None, ckpt=checkpoint, model_config=preset)
    untrained = snapshot(expert)
    train_step(expert.train(), WAVS)
    frozen = {name for name, p in expert.named_parameters() if not p.requires_grad}
    assert all(torch.equal(untrained[name], value) for name, value in snapshot(expert).items() if name in frozen)
    add_noise(expert.eval())
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    again = build_upstream(None, ckpt=folder, backbone=checkpoint).eval()
    assert equal(states_of(again, WAVS), states_of(expert, WAVS))
    assert states_of(expert, WAVS)[0].shape[:2] == (2, 12)
    assert not equal(states_of(expert, WAVS, "backbone_hidden_states"), before) or preset == "l_only"
    with expert.adapters_off():
        assert equal(states_of(expert, WAVS, "backbone_hidden_states"), before)
    assert equal(states_of(eject(expert), WAVS), before)


def test_adapt_takes_its_expert(checkpoint):
    expert = upstream_elp.adapt(read_backbone(checkpoint).expert(), "lora_qv8")
    assert expert.summary().startswith("lora_qv8 on Toyformer\n")


def test_the_commands_know_it(checkpoint, tmp_path):
    listed = CliRunner().invoke(group, ["backbones"], catch_exceptions=False).output
    assert "Toyformer" in listed and "elp_local -k PLACE" in listed
    with pytest.raises(ElpError, match=r"unknown backbone family 'toyfrmer'; the choices are: .*, toyformer"):
        write_backbone(tmp_path / "x.pt", family="toyfrmer")
    assert write_backbone(checkpoint, family="toyformer", **{**TINY, "extractor_mode": "layer_norm"}) == checkpoint
    with pytest.raises(ElpError, match="is not the backbone of these options"):
        write_backbone(checkpoint, family="toyformer", **{**TINY, "layers": 2})


def test_our_checkpoints_are_still_ours(package):
    from tests.toys import BACKBONES, tiny_backbone

    for name in ("wavlm-base", "data2vec-base"):
        assert read_backbone(tiny_backbone(None, BACKBONES[name][0])).family == BACKBONES[name][0]


def test_listing_families_imports_no_torch(package):
    code = (
        "import sys; from upstream_elp.backbones.families import families; print(*families(), 'torch' in sys.modules)"
    )
    done = _python(package, "-c", code)
    assert done.stdout.split()[-2:] == ["toyformer", "False"]


def test_the_laws_run_over_it_unasked(package):
    """The tests' catalogue is the registry: nothing in this repository names the family's toy."""
    laws = ("tests/upstream/test_laws_training.py", "tests/upstream/test_laws_switching.py")
    chosen = "toyformer-base and (elp-start or many-methods or prefixes-together or le-some-layers or lora-everywhere)"
    done = _python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", *laws, "-k", chosen)
    assert done.returncode == 0, done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 5 * 8, done.stdout


def _python(package, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("wavlm = toyformer:TOYFORMER", "the entry point 'wavlm' .* must be a Family named 'wavlm': found 'toyformer'"),
        ("toyformer = toyformer:recognise", "must be a Family named 'toyformer': found 'function'"),
        ("toyformer = toyformer:MISSING", "the backbone family 'toyformer' cannot be imported from toyformer:MISSING"),
    ],
)
def test_a_broken_package_is_one_sentence(package, entry, message):
    install(package, entry=entry)
    forget()
    with pytest.raises(ElpError, match=message):
        families.families()


def test_a_taken_name_is_refused(package):
    text = blocks()["toyformer.py"].replace('name="toyformer"', 'name="hubert"')
    install(package, entry="hubert = toyformer:TOYFORMER", **{"toyformer.py": text})
    forget()
    with pytest.raises(ElpError, match="the backbone family 'hubert' of toyformer:TOYFORMER has a name that is taken"):
        families.families()


def test_a_recogniser_that_fails_is_named(package, tmp_path):
    text = blocks()["toyformer.py"].replace('content.get("format")', 'content["format"]')
    install(package, **{"toyformer.py": text})
    forget()
    torch.save({"other": 1}, tmp_path / "other.pt")
    with pytest.raises(ElpError, match="the family 'toyformer' failed to recognise a checkpoint: KeyError"):
        read_backbone(tmp_path / "other.pt")


def test_every_toy_is_recognised_by_its_own_family_only(tmp_path):
    """Ours: a checkpoint that two families recognise would depend on their order."""
    from upstream_elp.backbones.huggingface_files import read_json
    from upstream_elp.base.safe_load import load_inert

    upstream_elp.register()
    for name, family in families.FAMILIES.items():
        for toy in family.toys.values():
            path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
            family.write(path, BackboneShape(family=name, **{**TINY, **toy}), 0)
            content = read_json(str(path), "config.json", False) if path.is_dir() else load_inert(path)[0]
            assert [other.name for other in families.FAMILIES.values() if other.recognise(content)] == [name]
