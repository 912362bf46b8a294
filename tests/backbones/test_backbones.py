"""The table of backbones: every entry of S3PRL's hub is named, covered by another, or refused with a reason."""

import json

import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from tests.toys import TINY_CONV
from upstream_elp.adapters.registry import method_names
from upstream_elp.backbones.architecture import architecture, backbone_names, other_entries, other_entry
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.launch import arguments
from upstream_elp.upstream.build import FOLDER_ENTRIES, build_upstream

REFUSED = ("distilhubert", "multires_hubert_base", "lighthubert_base", "espnet_hubert_large_gs_ll60k", "cvhubert")
REFUSED += ("wav2vec2_conformer_relpos", "wavlablm_ek_40k")


def test_the_command_lists_every_family_name_and_refusal():
    result = CliRunner().invoke(group, ["backbones"], catch_exceptions=False)
    assert result.exit_code == 0
    for name in [*(f"elp_{name}" for name in [*backbone_names(), *FOLDER_ENTRIES]), *method_names()]:
        assert name in result.output
    found = json.loads(CliRunner().invoke(group, ["backbones", "--json"], catch_exceptions=False).output)
    assert [family["family"] for family in found["families"]] == list(FAMILIES)
    upstreams = [name for family in found["families"] for name in family["upstreams"]]
    assert sorted(upstreams) == sorted(f"elp_{name}" for name in backbone_names())
    assert found["others"] == other_entries() and found["methods"] == method_names()


def test_every_entry_of_s3prls_hub_is_spoken_of():
    """Entries for models of our families are taken; all others match a refusal."""
    upstream_elp.register()
    from s3prl import hub

    taken = (
        "wavlm",
        "hubert",
        "wav2vec2",
        "xlsr",
        "xls_r",
        "data2vec",
        "unispeech_sat",
        "contentvec",
        "mhubert",
        "hf_",
    )
    for name in hub.options():
        if name.startswith("elp_") or name in backbone_names() or not callable(getattr(hub, name)):
            continue
        entry = other_entry(name)
        refused = entry is None or "through" not in entry
        assert refused is (not name.startswith((*taken, "ms_hubert")) or "conformer" in name), name
    assert other_entries()[-1]["names"] == ["*"]


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name):
    with pytest.raises(ElpError, match=rf"{name} is not supported: .*\(see `elp backbones`\)"):
        architecture(f"elp_{name}")
    with pytest.raises(ElpError, match=rf"-u elp_{name} is not supported: "):
        arguments.name("-u", f"elp_{name}", ["elp_wavlm"])


def test_layers_of_another_type_are_named(tmp_path):
    """A conformer's checkpoint has the keys of wav2vec 2.0, but its layers are recognised."""
    upstream_elp.register()
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    config = {
        "encoder_layers": 2,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
        "conv_feature_layers": str(list(TINY_CONV)),
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "layer_type": "conformer",
        "attn_type": "espnet",
        "pos_enc_type": "rel_pos",
        "final_dim": 32,
    }
    model = Wav2Vec2Model(Wav2Vec2Config(**config))
    path = tmp_path / "conformer.pt"
    torch.save({"task_cfg": {"normalize": False}, "model_cfg": config, "model_weight": model.state_dict()}, path)
    words = (
        r"of this wav2vec2 model are of type s3prl\.upstream\.wav2vec2\.wav2vec2_model\.ConformerWav2Vec2EncoderLayer"
    )
    with pytest.raises(ElpError, match=words):
        build_upstream(None, ckpt=path, model_config="le")
