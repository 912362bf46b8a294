"""Adapter folders: they are read back unchanged, appear whole or not at all, and are never run or trusted."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.experts import CONFIGS, changed, equal, make_expert, snapshot, states_of, stock_expert, waves
from upstream_elp.backbones.fingerprint import Fingerprint, fingerprint
from upstream_elp.base import tensor_files
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, TENSOR_FILE, is_adapter_folder, read_adapter_folder
from upstream_elp.upstream.adapter_folder import write_adapter_folder as write
from upstream_elp.upstream.transfer import adapter_folder_of, load_adapter

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "adapter", adapter_folder_of(make_expert("wavlm-base", "elp", noise=0.1)))


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config, tmp_path):
    expert = make_expert("wavlm-base", config, noise=0.1)
    place = write(tmp_path / "deep" / "adapter", adapter_folder_of(expert))
    assert sorted(path.name for path in place.iterdir()) == [TENSOR_FILE, CONFIG_FILE] and is_adapter_folder(place)
    content = read_adapter_folder(place)
    assert content.config == expert.config and content.fingerprint == expert.fingerprint
    assert content.family == "wavlm" and content.backbone is None
    other = make_expert("wavlm-base", config, seed=7)
    load_adapter(other, content, where=str(place))
    assert other.trained
    assert equal(states_of(other, WAVS), states_of(expert, WAVS))


def test_no_machine_path_and_no_frozen_tensor_in_it(folder, tmp_path):
    text = (folder / CONFIG_FILE).read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text
    expert = make_expert("wavlm-base", "elp")
    assert set(load_file(folder / TENSOR_FILE)) == set(expert.injection.declared)


def test_an_existing_folder_is_kept(folder, tmp_path):
    content = read_adapter_folder(folder)
    before = (folder / TENSOR_FILE).read_bytes()
    with pytest.raises(ElpError, match="is not an empty folder"):
        write(folder, content)
    assert (folder / TENSOR_FILE).read_bytes() == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ElpError, match="is not an empty folder"):
        write(file, content)
    assert file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert is_adapter_folder(write(tmp_path / "empty", content))


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_failed_write_leaves_nothing(kind, folder, tmp_path, monkeypatch):
    def fail(*_):
        raise kind("disk full")

    monkeypatch.setattr(tensor_files, "save_file", fail)
    with pytest.raises(ElpError, match=r"cannot write .*: disk full"):
        write(tmp_path / "new", read_adapter_folder(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_an_unwritable_place_is_one_sentence(folder, tmp_path):
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(ElpError, match="cannot write"):
        write(blocker / "adapter", read_adapter_folder(folder))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


def _tensors(folder):
    return folder / TENSOR_FILE


DAMAGES = {
    "truncated": (lambda f: _tensors(f).write_bytes(_tensors(f).read_bytes()[:-100]), "not a readable safetensors"),
    "empty": (lambda f: _tensors(f).write_bytes(b""), "not a readable safetensors"),
    "pickle": (lambda f: _tensors(f).write_bytes(pickle.dumps(Bomb())), "not a readable safetensors"),
    "torch pickle": (lambda f: torch.save(Bomb(), _tensors(f)), "not a readable safetensors"),
    "no tensors": (lambda f: _tensors(f).unlink(), "has no adapter.safetensors"),
    "yaml code": (
        lambda f: (f / CONFIG_FILE).write_text("!!python/object/apply:os.mkdir ['bomb-went-off']"),
        "not a readable YAML",
    ),
    "yaml list": (lambda f: (f / CONFIG_FILE).write_text("- 1"), "must contain a mapping"),
    "binary": (lambda f: (f / CONFIG_FILE).write_bytes(b"\xff\xfe\x00"), "not a readable YAML"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders(damage, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(ElpError, match=message):
        read_adapter_folder(folder)
    assert not (tmp_path / "bomb-went-off").exists()


def _edit(folder, change):
    raw = yaml.safe_load((folder / CONFIG_FILE).read_text())
    change(raw)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(raw))


EDITS = {
    "key": (lambda r: r.update(extra=1), "unknown key 'extra'; the valid keys are"),
    "version": (lambda r: r.update(format_version=2), "format_version must be 1, but is 2"),
    "no version": (lambda r: r.pop("format_version"), "format_version is None"),
    "adapter key": (lambda r: r["adapter"].update(l_adaptor={}), "unknown key 'l_adaptor'"),
    "adapter value": (lambda r: r["adapter"]["l_adapter"].update(activation="tanh"), "must be one of gelu, relu"),
    "number": (lambda r: r.update({1: 1}), "unknown key 1; the valid keys are"),
    "no sum": (
        lambda r: r.pop("tensors_sha256"),
        "the key 'tensors_sha256' must be the sha256 of",
    ),
    "huge sketch": (lambda r: r["backbone"]["fingerprint"].update(sketch=[10**400]), "must be a list of numbers"),
    "base that climbs": (lambda r: r["adapter"].update(base="../../elp"), r"unknown base '\.\./\.\./elp'"),
    "no adapter": (lambda r: r.pop("adapter"), "the key 'adapter'"),
    "no backbone": (lambda r: r.pop("backbone"), "the key 'backbone'"),
    "no fingerprint": (lambda r: r["backbone"].pop("fingerprint"), "family and fingerprint"),
    "no sketch": (lambda r: r["backbone"]["fingerprint"].pop("sketch"), "sha256, structure and sketch"),
    "bad sketch": (lambda r: r["backbone"]["fingerprint"].update(sketch=["x"]), "must be a list of numbers"),
    "null sketch": (lambda r: r["backbone"]["fingerprint"].update(sketch=None), "must be a list of numbers"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_configurations(edit, folder):
    change, message = EDITS[edit]
    _edit(folder, change)
    with pytest.raises(ElpError, match=message):
        read_adapter_folder(folder)


def test_one_changed_bit_is_found(folder):
    content = bytearray(_tensors(folder).read_bytes())
    content[-7] ^= 1
    _tensors(folder).write_bytes(content)
    load_file(_tensors(folder))  # the format itself does not detect it
    with pytest.raises(ElpError, match=r"adapter\.safetensors is damaged or was changed: its sha256"):
        read_adapter_folder(folder)


TAMPERED = {
    "shape": ({"p_adapter.vectors": torch.zeros(3, 3)}, r"p_adapter\.vectors has the shape \(3, 3\)"),
    "kind": (
        {"p_adapter.vectors": torch.zeros(10, 32, dtype=torch.int64)},
        r"p_adapter\.vectors does not contain floating-",
    ),
    "complex": (
        {"p_adapter.vectors": torch.zeros(10, 32, dtype=torch.complex64)},
        r"vectors holds no float",
    ),
    "unknown": ({"p_adapter.more": torch.zeros(3)}, r"contains the unknown tensors p_adapter\.more"),
    "path": ({"../../backbone.model.mask_emb": torch.zeros(32)}, r"contains the unknown tensors \.\./\.\./backbone"),
    "frozen": ({"backbone.model.mask_emb": torch.zeros(32)}, r"contains the unknown tensors backbone\.model\.mask_emb"),
    "missing": ({"p_adapter.vectors": None}, r"lacks tensors p_adapter\.vectors"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_tensors_are_refused_and_nothing_is_loaded(how, folder):
    """Also if the checksum in the configuration was adapted."""
    change, message = TAMPERED[how]
    tensors = {name: tensor for name, tensor in {**load_file(_tensors(folder)), **change}.items() if tensor is not None}
    save_file(tensors, _tensors(folder))
    _edit(folder, lambda raw: raw.update(tensors_sha256=sha256_of(_tensors(folder))))
    expert = make_expert("wavlm-base", "elp", seed=2)
    before = snapshot(expert)
    with pytest.raises(ElpError, match=message):
        load_adapter(expert, read_adapter_folder(folder), where=str(folder))
    assert not changed(expert, before) and not expert.trained


@pytest.mark.parametrize("other", [{"backbone": "hubert-base"}, {"seed": 3}, {"dim": 40}])
def test_another_backbone_is_refused(other, folder):
    """Also another seed of the same architecture, whose norms are nearly the same."""
    options = dict(other)
    torch.manual_seed(0)
    stock = stock_expert(options.pop("backbone", "wavlm-base"), **options)
    assert not fingerprint(stock).resembles(read_adapter_folder(folder).fingerprint)
    if "dim" in other:
        return  # its adapters have other shapes anyway
    from upstream_elp.upstream.expert import ElpExpert

    expert = ElpExpert(stock, read_adapter_folder(folder).config, check=False)
    before = snapshot(expert)
    with pytest.raises(ElpError, match=r"was trained on another backbone \(a local checkpoint, sha256"):
        load_adapter(expert, read_adapter_folder(folder), where="here")
    assert not changed(expert, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_copy_is_recognised(dtype, folder, caplog):
    from upstream_elp.upstream.expert import ElpExpert

    stock = stock_expert()
    for tensor in [*stock.parameters(), *stock.buffers()]:
        tensor.data = tensor.data.to(dtype).float()
    expert = ElpExpert(stock, read_adapter_folder(folder).config, check=False)
    load_adapter(expert, read_adapter_folder(folder), where="here")
    assert "this backbone in another precision" in caplog.text and expert.trained


def test_fingerprints_are_of_tensors_not_of_files():
    stock = stock_expert()
    one = fingerprint(stock)
    assert one == fingerprint(stock_expert()) == Fingerprint.from_dict(yaml.safe_load(yaml.safe_dump(one.to_dict())))
    with torch.no_grad():
        stock.model.encoder.layers[0].fc1.bias[3] += 1e-6
    assert fingerprint(stock).sha256 != one.sha256 and fingerprint(stock).resembles(one)
