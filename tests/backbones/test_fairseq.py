"""Checkpoints written by fairseq load like S3PRL's converted files; names may have a prefix."""

import logging
import os
from functools import cache

import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from tests.experts import backbone_path, equal, states_of, waves
from tests.fairseq_files import LAYOUTS, NAMES, PREFIX, write_fairseq
from upstream_elp.backbones.backbone_file import WRAPPERS, read_backbone
from upstream_elp.backbones.fairseq import plain
from upstream_elp.base.errors import ElpError
from upstream_elp.base.safe_load import Inert
from upstream_elp.cli import group
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.transfer import adapter_folder_of

WAVS = waves(4000, 2900)
BACKBONES = ["wav2vec2-base", "wav2vec2-large", "hubert-base", "hubert-large", "data2vec-base"]


def _converted(backbone):
    return torch.load(backbone_path(backbone), weights_only=True)


def _expert(path, config="le"):
    torch.manual_seed(0)
    return build_upstream(None, ckpt=path, model_config=config).eval()


@cache
def _plain(backbone):
    """States and fingerprint of the converted file."""
    expert = _expert(backbone_path(backbone), "weighted_sum")
    return states_of(expert, WAVS), expert.fingerprint


@pytest.mark.parametrize("fine_tuned", [False, True], ids=["pretrained", "fine-tuned"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_is_the_converted_backbone(backbone, layout, fine_tuned, tmp_path):
    family = backbone.split("-")[0]
    old_format = layout == "args"  # from the same years
    raw = tmp_path / "raw.pt"
    write_fairseq(raw, _converted(backbone), family, layout=layout, fine_tuned=fine_tuned, old_format=old_format)
    ours, (states, fingerprint) = _expert(raw, "weighted_sum"), _plain(backbone)
    assert ours.injection.family.name == family and equal(states_of(ours, WAVS), states)
    # the fingerprint includes tensors of pre-training, which a fine-tuned file does not have
    assert (ours.fingerprint == fingerprint) is (not fine_tuned or family == "data2vec")


@pytest.mark.parametrize("backbone", ["wav2vec2-base", "hubert-large", "data2vec-base"])
def test_an_adapter_fits_the_raw_and_the_converted_file(backbone, tmp_path):
    converted = backbone_path(backbone)
    raw = write_fairseq(tmp_path / "raw.pt", _converted(backbone), backbone.split("-")[0])
    for trained_on, used_on in ((raw, converted), (converted, raw)):
        expert = _expert(trained_on)
        folder = write_adapter_folder(tmp_path / f"on-{trained_on.stem}", adapter_folder_of(expert))
        again = build_upstream(None, ckpt=folder, backbone=used_on).eval()
        assert equal(states_of(again, WAVS), states_of(expert, WAVS))


@pytest.mark.parametrize("fine_tuned", [False, True])
@pytest.mark.parametrize("backbone", ["wav2vec2-base", "hubert-large", "data2vec-base"])
def test_merging_into_it_gives_a_file_that_plain_s3prl_loads(backbone, fine_tuned, tmp_path):
    upstream_elp.register()
    from s3prl import hub

    family = backbone.split("-")[0]
    raw = write_fairseq(tmp_path / "raw.pt", _converted(backbone), family, fine_tuned=fine_tuned)
    expert = _expert(raw, {"features": "layers", "layer_norm": {}})
    with torch.no_grad():
        for parameter in expert.injection.parameters(expert).values():
            parameter.mul_(1.1)
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    command = ["merge", str(folder), str(tmp_path / "merged.pt"), "--backbone", str(raw)]
    assert CliRunner().invoke(group, command, catch_exceptions=False).exit_code == 0
    merged = getattr(hub, f"{family}_local")(ckpt=str(tmp_path / "merged.pt")).eval().requires_grad_(False)
    expert.requires_grad_(False)
    assert equal(states_of(merged, WAVS), states_of(expert, WAVS, "backbone_hidden_states"))
    # a file exported for plain S3PRL counts as the same backbone
    torch.save(read_backbone(raw).state, tmp_path / "converted.pt")
    assert _expert(tmp_path / "converted.pt").fingerprint == expert.fingerprint


def test_it_says_what_is_not_loaded(tmp_path, caplog):
    raw = write_fairseq(tmp_path / "raw.pt", _converted("wav2vec2-base"), "wav2vec2", fine_tuned=True)
    with caplog.at_level(logging.WARNING):
        _expert(raw)
    reported = caplog.messages[0]
    assert f"{raw}: a wav2vec2 checkpoint in fairseq's format" in reported and "from w2v_encoder.w2v_model" in reported
    assert "its head (2 tensors, such as w2v_encoder.proj." in reported and ") is not loaded" in reported
    assert "not in the file, since only pre-training uses it: final_proj, project_q, quantizer" in reported


def test_an_assertion_of_s3prls_is_a_reason_too(tmp_path):
    """Its loader asserts, without a message, that the task has a known field."""
    state = {**_converted("wav2vec2-base"), "task_cfg": {"unknown": 1}}
    torch.save(state, tmp_path / "task.pt")
    with pytest.raises(ElpError, match=r"S3PRL cannot load it: AssertionError at utils\.py:\d+: assert len\(cfg\) > 0"):
        _expert(tmp_path / "task.pt")


PREFIXES = ["module.", "_orig_mod.", "model.", "encoder.", PREFIX, "module.model.", "module._orig_mod.encoder."]


WRAPPED = [f"encoder|{wrapper}" for wrapper in WRAPPERS]
CASES = [("hubert-base", prefix) for prefix in [*PREFIXES, *WRAPPED]]
CASES += [(backbone, "module.") for backbone in ("wavlm-base", "wav2vec2-large", "data2vec-base", "unispeech_sat-base")]


@pytest.mark.parametrize(("backbone", "prefix"), CASES)
def test_what_stands_before_all_names_is_stripped(backbone, prefix, tmp_path):
    """In S3PRL's layout; an inner module may be wrapped too."""
    state = _converted(backbone)
    key = "model" if "model" in state else "model_weight"
    if "|" in prefix:
        inner, wrapper = prefix.split("|")
        state[key] = {name.replace(f"{inner}.", f"{inner}.{wrapper}", 1): value for name, value in state[key].items()}
    else:
        state[key] = {f"{prefix}{name}": value for name, value in state[key].items()}
    torch.save(state, tmp_path / "prefixed.pt")
    ours, (states, fingerprint) = _expert(tmp_path / "prefixed.pt", "weighted_sum"), _plain(backbone)
    assert ours.fingerprint == fingerprint and equal(states_of(ours, WAVS), states)


class Bomb:
    """Code that a pickle would run."""

    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


def _change(**changes):
    def change(state):
        state["cfg"]["model"].update(changes)

    return change


def _move(state):
    state["model"] = {
        f"{side}.{name}": value for name, value in state["model"].items() for side in ("student", "teacher")
    }


def _drop(name):
    return lambda state: state["model"].pop(name)


WRONG = {
    "another model": (
        _change(_name="roberta"),
        "fairseq's model 'roberta' is not supported; the supported models are: wav2vec2, hubert",
    ),
    "no w2v_args": (_change(_name="wav2vec_ctc", w2v_path="x.pt"), r"fine-tuned from 'x\.pt', without the conf"),
    "empty w2v_args": (
        _change(_name="wav2vec_ctc", w2v_args=[1]),
        r"w2v_args must contain the configuration of the pre-training, but is \[1\]",
    ),
    "code": (_change(conv_feature_layers="__import__('os').mkdir('bomb-went-off')"), "conv_feature_layers must be"),
    "an object": (lambda state: state.update(extra=Bomb()), "code from a file is never run"),
    "a lacking tensor": (
        _drop("encoder.layers.1.fc1.weight"),
        r"its hubert model lacks 1 tensor, such as encoder\.layers\.1\.fc1\.weight",
    ),
    "an unknown tensor": (
        lambda state: state["model"].update({"encoder.more": torch.zeros(1)}),
        r"contains the unknown 1 tensor, such as encoder\.more",
    ),
    "another width": (
        _change(encoder_ffn_embed_dim=96),
        r"has another shape of \d+ tensors, such as encoder",
    ),
    "impossible": (_change(encoder_attention_heads=5), "S3PRL cannot build a hubert model from its configuration"),
    "two backbones": (_move, r"it contains 2 backbones, with the prefixes 'student\.', 'teacher\.'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_one_sentence(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, words = WRONG[kind]
    converted = _converted("hubert-base")
    config = {"model": {**converted["model_cfg"], "_name": NAMES["hubert"]}, "task": converted["task_cfg"]}
    state = {"args": None, "cfg": config, "model": converted["model_weight"]}
    change(state)
    torch.save(state, "raw.pt")
    with pytest.raises(ElpError, match=words) as raised:
        _expert("raw.pt")
    assert "raw.pt" in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "bomb-went-off").exists()


def test_code_in_s3prls_own_layout_is_not_run(tmp_path, monkeypatch):
    """S3PRL's models evaluate this text."""
    monkeypatch.chdir(tmp_path)
    state = _converted("wavlm-base")
    state["cfg"]["conv_feature_layers"] = "__import__('os').mkdir('bomb-went-off') or [(8, 10, 5)]"
    torch.save(state, "wavlm.pt")
    with pytest.raises(ElpError, match=r"wavlm\.pt cannot be used: conv_feature_layers must be"):
        _expert("wavlm.pt")
    assert not (tmp_path / "bomb-went-off").exists()


def test_the_reason_is_whole_and_counts_what_does_not_fit(tmp_path):
    state = _converted("wavlm-base")
    weights = state["model"]
    for name in [name for name in weights if "fc1" in name]:
        weights[f"{name}_with_a_name_that_is_far_longer_than_a_sentence_has_room_for"] = weights.pop(name)
    torch.save(state, tmp_path / "wavlm.pt")
    with pytest.raises(ElpError, match=r"it lacks 6 tensors, such as \S+, it contains the unknown 6 tensors, such"):
        _expert(tmp_path / "wavlm.pt")


def test_weights_without_a_configuration_are_named(tmp_path):
    torch.save(_converted("hubert-base")["model_weight"], tmp_path / "bare.pt")
    with pytest.raises(ElpError, match=r"bare\.pt contains the tensors of a model without its configuration"):
        _expert(tmp_path / "bare.pt")
    from safetensors.torch import load_file

    torch.save(load_file(backbone_path("hf_hubert-base") / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ElpError, match=r"weights of a Hugging Face model .* pass the folder"):
        _expert(tmp_path / "pytorch_model.bin")


def test_objects_are_never_made(tmp_path):
    """Not even objects of installed classes."""
    raw = write_fairseq(tmp_path / "raw.pt", _converted("hubert-base"), "hubert", layout="omegaconf")
    from upstream_elp.base.safe_load import load_inert

    state, stand_ins = load_inert(raw)
    assert stand_ins and isinstance(state["cfg"], Inert) and plain(state["cfg"])["model"]["_name"] == "hubert"
    endless = Inert()
    endless.state = {"_content": endless}
    with pytest.raises(RecursionError):
        plain(endless)
