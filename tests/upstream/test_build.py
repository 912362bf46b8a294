"""From names and files to an expert: families, adapter folders, and one sentence for every wrong ``-k``."""

import os

import pytest
import torch

import upstream_elp
from tests.experts import backbone_path, equal, make_expert, states_of, waves
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.backbones.architecture import backbone_names
from upstream_elp.backbones.backbone_file import read_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream import build, hubconf
from upstream_elp.upstream.adapter_folder import read_adapter_folder, write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.transfer import adapter_folder_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)


def _path(backbone="wavlm-base"):
    return backbone_path(backbone)


@pytest.fixture
def trained():
    return make_expert("wavlm-base", "elp", noise=0.1)


@pytest.fixture
def folder(tmp_path, trained):
    return write_adapter_folder(tmp_path / "adapter", adapter_folder_of(trained))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_families_are_recognised_from_keys(backbone):
    if backbone in S3PRL_STYLE:
        assert read_backbone(_path(backbone)).family == backbone.split("-")[0]
    expert = build_upstream(None, ckpt=_path(backbone), model_config="le")
    assert expert.injection.family.name == backbone.split("-")[0] and expert.name is None


def test_every_entry_takes_s3prls_calls():
    entries = {name: value for name, value in vars(hubconf).items() if not name.startswith("_")}
    names = [*backbone_names(), *build.FOLDER_ENTRIES, "custom", "local", "url"]
    assert set(entries) == {"fbank_scaled", *(f"elp_{name}" for name in names)}
    assert all(callable(entry) and entry.__doc__ for entry in entries.values())
    for name in ("elp_custom", "elp_local", "elp_url", "elp_wavlm", "elp_wavlm_base_plus"):
        expert = entries[name](ckpt=str(_path()), model_config="le", refresh=False)
        assert expert.config.name == "le"
        assert expert.name == (name.removeprefix("elp_") if "wavlm" in name else None)
    assert hubconf.elp_custom(_path()).config.name == "elp"


def test_urls_go_through_s3prls_downloads(monkeypatch):
    upstream_elp.register()
    import s3prl.util.download

    seen = []
    monkeypatch.setattr(
        s3prl.util.download, "_urls_to_filepaths", lambda url, refresh: seen.append((url, refresh)) or str(_path())
    )
    hubconf.elp_url("https://example.org/backbone.pt", refresh=True)
    assert seen == [("https://example.org/backbone.pt", True)]


def _save(content):
    def make(path):
        torch.save(content, path)

    return make


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


BAD_FILES = {
    "text": (lambda path: path.write_text("hello"), "is not a checkpoint that can be loaded safely"),
    "empty": (lambda path: path.write_bytes(b""), "is not a checkpoint that can be loaded safely"),
    "truncated": (lambda path: path.write_bytes(_path().read_bytes()[:5000]), "cannot|is not a checkpoint"),
    "code": (_save(Bomb()), "is not a checkpoint that can be loaded safely"),
    "list": (_save([1, 2]), "is not a backbone of the families wavlm, hubert, .* it does not contain any keys"),
    "other keys": (_save({"state_dict": {}}), "is not a backbone .*: its keys are state_dict"),
    "no configuration": (_save({"cfg": None, "model": {}}), "is not a backbone .*: its keys are cfg, model"),
    "no weights": (_save({"task_cfg": {}, "model_cfg": {}, "model_weight": None}), "is not a backbone of the families"),
    "hollow data2vec": (
        _save({"task_cfg": {}, "model_cfg": {}, "model_weight": {"_ema": 0}}),
        "looks like a data2vec checkpoint, but S3PRL cannot load it",
    ),
    "hollow UniSpeech-SAT": (
        _save({"cfg": {}, "model": {}}),
        "looks like a unispeech_sat checkpoint, but S3PRL cannot load it",
    ),
    "hollow": (
        _save({"cfg": {"relative_position_embedding": True}, "model": {}}),
        "looks like a wavlm checkpoint, but S3PRL cannot load it",
    ),
    "folder": (lambda path: path.mkdir(), "contains neither adapter_config.yaml nor config.json"),
    "nothing": (lambda path: None, "there is no backbone checkpoint or adapter folder at"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_wrong_files(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, message = BAD_FILES[kind]
    make(tmp_path / "backbone.pt")
    with pytest.raises(ElpError, match=message):
        hubconf.elp_custom(str(tmp_path / "backbone.pt"), model_config="le")
    assert not (tmp_path / "bomb-went-off").exists()


def test_another_family_is_refused():
    with pytest.raises(ElpError, match="is a hubert checkpoint, but wavlm_base_plus is a wavlm model"):
        hubconf.elp_wavlm_base_plus(ckpt=str(_path("hubert-base")))


def test_missing_and_misspelt_options():
    with pytest.raises(ElpError, match="need -k: a backbone checkpoint or a trained adapter folder"):
        hubconf.elp_local()
    for entry in (hubconf.elp_custom, hubconf.elp_local, hubconf.elp_wavlm):
        with pytest.raises(ElpError, match="unknown upstream option 'model_cofig'; the options are: ckpt, model_conf"):
            entry(ckpt=str(_path()), model_cofig="le")
    with pytest.raises(ElpError, match="is not an adapter folder, so it is the backbone itself"):
        hubconf.elp_custom(str(_path()), backbone=str(_path()))
    with pytest.raises(ElpError, match="no adapter preset or file 'ell'"):
        hubconf.elp_custom(str(_path()), model_config="ell")


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_an_adapter_folder_finds_its_local_backbone(how, folder, trained, monkeypatch):
    monkeypatch.delenv(build.BACKBONE_VARIABLE, raising=False)
    options = {"backbone": str(_path())} if how == "argument" else {}
    if how == "variable":
        monkeypatch.setenv(build.BACKBONE_VARIABLE, str(_path()))
    for entry in (hubconf.elp_custom, hubconf.elp_wavlm_base):
        expert = entry(ckpt=str(folder), **options).eval()
        assert expert.trained and equal(states_of(expert, WAVS), states_of(trained, WAVS))
        assert expert.config == trained.config


def test_adapter_folders_with_the_wrong_company(folder, tmp_path, monkeypatch):
    monkeypatch.delenv(build.BACKBONE_VARIABLE, raising=False)
    with pytest.raises(ElpError, match="needs a local wavlm checkpoint: name it with --backbone PATH"):
        hubconf.elp_custom(str(folder))
    with pytest.raises(ElpError, match="with its own configuration: remove -g le"):
        hubconf.elp_custom(str(folder), model_config="le", backbone=str(_path()))
    with pytest.raises(ElpError, match="was trained on another backbone"):
        hubconf.elp_custom(str(folder), backbone=str(_path("wavlm-large")))
    with pytest.raises(ElpError, match="trained on a wavlm backbone, but hubert_base is a hubert"):
        hubconf.elp_hubert_base(ckpt=str(folder))
    with pytest.raises(ElpError, match="no backbone checkpoint"):
        hubconf.elp_custom(str(folder), backbone=str(tmp_path / "nothing.pt"))
    with pytest.raises(ElpError, match="is a trained adapter folder and not a backbone; pass the checkpoint"):
        hubconf.elp_custom(str(folder), backbone=str(folder))


def test_a_folders_hub_name_is_not_looked_up_blindly(folder, monkeypatch):
    """The name comes from a file that anyone may have written."""
    monkeypatch.delenv(build.BACKBONE_VARIABLE, raising=False)
    text = (folder / "adapter_config.yaml").read_text()
    for name in ("elp_custom", "options", "os", "__import__"):
        (folder / "adapter_config.yaml").write_text(text.replace("name: null", f"name: {name}", 1))
        assert read_adapter_folder(folder).backbone == name
        with pytest.raises(ElpError, match="unknown backbone"):
            hubconf.elp_custom(str(folder))


def test_the_self_check_can_be_skipped(monkeypatch):
    monkeypatch.setattr(
        "upstream_elp.upstream.expert.self_check", lambda *_: (_ for _ in ()).throw(ElpError("checked"))
    )
    with pytest.raises(ElpError, match="checked"):
        hubconf.elp_custom(_path())
    monkeypatch.setenv("ELP_SELF_CHECK", "0")
    assert hubconf.elp_custom(_path()).config.name == "elp"
