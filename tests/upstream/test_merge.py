"""Merged checkpoints: plain S3PRL loads them and computes the same as the adapted backbone."""

import argparse
import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from tests.experts import add_noise, at_defaults, backbone_path, equal, states_of, waves
from tests.toys import BACKBONES, S3PRL_STYLE, tiny_backbone
from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.adapters.registry import LAST, OURS, method_class, method_names
from upstream_elp.backbones.huggingface import HuggingFaceExpert
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.merge import merged_tensors, write_merged
from upstream_elp.upstream.transfer import adapter_folder_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)
CONFIGS = {
    "lora, layer norms": {"features": "layers", "lora": {"targets": ["q", "fc1"]}, "layer_norm": {"layers": ":-1"}},
    "lora, biases": {"features": "layers", "lora": {"targets": ["k", "out"]}, "bias": {"layers": "top:1"}},
    "all fine-tuned": {"base": "full_finetune_all"},
    **{f"{name}-defaults": at_defaults(name) for name in method_names() if method_class(name).mergeable},
}


def _trained(backbone, config):
    expert = build_upstream(None, ckpt=backbone_path(backbone), model_config=config)
    add_noise(expert)
    return expert.eval()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_plain_s3prl_gives_the_adapted_states(backbone, config, tmp_path, law):
    law("merged == unmerged, in plain S3PRL")
    upstream_elp.register()  # S3PRL's hub does not import on today's torchaudio without it
    from s3prl import hub

    expert = _trained(backbone, CONFIGS[config])
    out = write_merged(expert, backbone_path(backbone), tmp_path / "merged.pt")
    plain = getattr(hub, expert.injection.family.hub_local)(ckpt=str(out)).eval().requires_grad_(False)
    expert.requires_grad_(False)  # torch uses another attention kernel if a weight requires a gradient
    assert equal(states_of(plain, WAVS), states_of(expert, WAVS, "backbone_hidden_states"))
    again = write_merged(expert, backbone_path(backbone), tmp_path / "again.pt")
    first, second = (torch.load(path, weights_only=True) for path in (out, again))
    weights = "model" if "model" in first else "model_weight"
    for checkpoint in (first, second):
        checkpoint[weights].pop("_ema", None)  # data2vec's, a mapping
    assert all(torch.equal(first[weights][key], second[weights][key]) for key in first[weights])
    original = torch.load(backbone_path(backbone), weights_only=True)
    original[weights].pop("_ema", None)
    differing = [key for key, tensor in original[weights].items() if not torch.equal(tensor, first[weights][key])]
    assert list(original[weights]) == list(first[weights]) and set(differing) == set(merged_tensors(expert))
    assert {key: value for key, value in first.items() if key != weights} == {
        key: value for key, value in original.items() if key != weights
    }


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.startswith("hf_")])
def test_plain_transformers_gives_the_adapted_states(backbone, config, tmp_path, law):
    law("merged == unmerged, in plain transformers")
    from transformers import AutoModel

    expert = _trained(backbone, CONFIGS[config])
    plain = backbone_path(backbone)
    out = write_merged(expert, plain, tmp_path / "merged")
    original = AutoModel.from_pretrained(plain).state_dict()
    merged, report = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    differing = {key for key, tensor in merged.state_dict().items() if not torch.equal(tensor, original[key])}
    assert differing == set(merged_tensors(expert))
    assert json.loads((out / "config.json").read_text()) == json.loads((plain / "config.json").read_text())
    expert.requires_grad_(False)
    unadapted = HuggingFaceExpert(out).eval().requires_grad_(False)
    assert equal(states_of(unadapted, WAVS), states_of(expert, WAVS, "backbone_hidden_states"))


def test_s3prls_expert_loads_it_without_this_package(tmp_path):
    out = write_merged(_trained("wavlm-base", "bitfit"), backbone_path("wavlm-base"), tmp_path / "merged.pt")
    code = (
        "import sys; from s3prl.upstream.wavlm.expert import UpstreamExpert; UpstreamExpert(sys.argv[1]); "
        "assert not any(name.startswith('upstream_elp') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=True)


OF_THEIR_OWN = {
    preset: [name for name, method in load_config(preset).methods.items() if not method.mergeable]
    for preset in preset_names()
}


def test_methods_that_change_only_the_backbones_tensors_can_be_merged():
    mergeable = {name for name in (*OURS, *LAST) if method_class(name).mergeable}
    assert mergeable == {"lora", "layer_norm", "bias", "encoder"}
    text = " ".join(CliRunner().invoke(group, ["backbones", "--help"]).output.split())
    words = text.split("own tensors (")[1].split(")")[0]
    assert set(words.replace(",", " ").split()) - {"and"} == mergeable


@pytest.mark.parametrize("name", [preset for preset, methods in OF_THEIR_OWN.items() if methods])
def test_what_computes_something_of_its_own_is_refused(name, tmp_path, law):
    own = "the method does more than change weights, so that a plain backbone cannot contain it"
    law("merged == unmerged, in plain S3PRL", refused=own)
    words = f"{name}' cannot be merged .*: {', '.join(OF_THEIR_OWN[name])} cannot .*of our methods, lora, layer_norm"
    with pytest.raises(ElpError, match=words):
        write_merged(_trained("hubert-base", name), backbone_path("hubert-base"), tmp_path / "out.pt")
    assert not list(tmp_path.iterdir())


def test_nothing_to_merge_is_refused(tmp_path):
    with pytest.raises(ElpError, match="nothing to merge"):
        write_merged(_trained("hubert-base", "weighted_sum"), backbone_path("hubert-base"), tmp_path / "out.pt")
    assert not list(tmp_path.iterdir())


def test_wrong_places_are_refused(tmp_path):
    expert = _trained("hubert-base", "lora_qk8")
    with pytest.raises(ElpError, match="is a wavlm checkpoint, but the adapter's backbone is a hubert"):
        write_merged(expert, backbone_path("wavlm-base"), tmp_path / "out.pt")
    with pytest.raises(ElpError, match=r"has no tensor encoder\.layers\.0\.self_attn\.[qk]_proj\.weight of shape"):
        write_merged(expert, tiny_backbone(None, "hubert", dim=64), tmp_path / "out.pt")
    with pytest.raises(ElpError, match="exists; name another place"):
        write_merged(expert, backbone_path("hubert-base"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_merges_folders_and_training_checkpoints(tmp_path, monkeypatch):
    monkeypatch.delenv("ELP_BACKBONE", raising=False)
    plain, out = str(backbone_path("wavlm-base")), tmp_path / "merged.pt"
    expert = _trained("wavlm-base", "full_finetune")
    folder = str(write_adapter_folder(tmp_path / "folder", adapter_folder_of(expert)))
    result = CliRunner().invoke(group, ["merge", folder, str(out)])
    assert isinstance(result.exception, ElpError) and "pass its checkpoint with --backbone" in str(result.exception)
    result = CliRunner().invoke(group, ["merge", folder, plain, "--backbone", plain])
    assert isinstance(result.exception, ElpError) and "plain backbone itself" in str(result.exception)
    result = CliRunner().invoke(group, ["merge", folder, str(out), "--backbone", plain])
    assert result.exit_code == 0 and f"-u wavlm_local -k {out}" in result.output and "-l -1" in result.output

    args = argparse.Namespace(upstream="elp_local", upstream_ckpt=plain, upstream_model_config="full_finetune")
    states = {"Args": args, "Config": {}, "Step": 1, "Upstream": expert.state_dict()}
    torch.save(states, tmp_path / "states-1.ckpt")
    again = tmp_path / "again.pt"
    result = CliRunner().invoke(group, ["merge", str(tmp_path / "states-1.ckpt"), str(again)])
    assert result.exit_code == 0, result.exception
    first, second = (torch.load(path, weights_only=True)["model"] for path in (out, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
