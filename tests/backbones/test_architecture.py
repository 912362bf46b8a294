"""Parameter counts from shapes: the published figures, and what a real injection declares."""

import gc
import subprocess
import sys

import pytest
import torch

from tests.experts import CONFIGS, add_noise, make_expert, random_loss, waves
from tests.toys import BACKBONES, COUNTED, TINY_CONV
from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.backbones.architecture import Architecture, architecture, backbone_names
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.counting import count_parameters

#: one adapter each at 768 -> 256 and 768 -> 512, from the formulas of arXiv 2212.02780's official code
E, L = 395_776, 394_752
NORMS = 12 * 2 * 2 * 768

#: WavLM Base+; arXiv 2212.02780 prints 9.13 M (with the 12 layer weights, which are the featurizer's here),
#: 4.79 M, 9.53 M (9,498,624 of it adapters, also printed by a third party's training log), and 85.1 M
PAPER = {
    "le": {"e_adapter": 11 * E, "l_adapter": 12 * L, "layer_norm": NORMS, "total": 9_127_436 - 12},
    "elp": {"e_adapter": 11 * E, "l_adapter": 12 * L, "p_adapter": 7680, "layer_norm": NORMS, "total": 9_135_104},
    "l_only": {"l_adapter": 4_737_036 - 12, "layer_norm": NORMS, "total": 4_773_900 - 12},
    "l_plain": {"l_adapter": 12 * L, "total": 4_737_024},
    "e_only": {"e_adapter": 4_749_312, "layer_norm": NORMS, "total": 4_786_176},
    "conventional": {"e_adapter": 9_498_624, "layer_norm": NORMS, "total": 9_535_488},
    "full_finetune": {"encoder": 85_064_688, "total": 85_064_688},
    "weighted_sum": {"total": 0},
    # arXiv 2202.03218: 12 adapters in 6 layers and all norms are, with a head of 24,608, its 4.85 % of wav2vec 2.0 Base
    "conventional_top6": {"e_adapter": 12 * E, "layer_norm": NORMS, "total": 4_786_176},
    "conventional_top4": {"e_adapter": 8 * E, "layer_norm": NORMS, "total": 3_203_072},
    # arXiv 2210.06175 as coded: 12 (768 x 32 + 32 + 32 x 768 + 768), and 12 (768 + 3072 + 1)
    "houlsby32": {"houlsby": 599_424, "total": 599_424},
    "adapterbias": {"adapter_bias": 46_092, "total": 46_092},
    # the same with alpha on 768 values
    "adapterbias_paper": {"adapter_bias": 18_444, "total": 18_444},
    # arXiv 2401.02122 as coded: the same bottleneck on the layers' input
    "parallel": {"parallel": 599_424, "total": 599_424},
    # arXiv 2210.06175: 10 vectors at the input, and 10 more in each of 12 layers; arXiv 2306.05350: 5 in each layer
    "prompt": {"p_adapter": 7680, "total": 7680},
    "prefix_tokens": {"p_adapter": 7680, "deep_prompt": 92_160, "total": 99_840},
    "deep_prompt": {"deep_prompt": 46_080, "total": 46_080},
    # 10 keys and 10 values in each of 12 layers
    "prefix_kv": {"prefix_kv": 184_320, "total": 184_320},
    # arXiv 2212.01282 as coded, all 7 blocks: 512 (10 + 4 x 3 x 512 + 2 x 2 x 512) + 2 x 512, also with Houlsby's
    "cnn": {"cnn": 4_200_448, "total": 4_200_448},
    "chapter": {"houlsby": 599_424, "cnn": 4_200_448, "total": 4_799_872},
    # two matrices of 768 x 8 and 8 x 768 in 12 layers (arXiv 2210.06175 as coded)
    "lora_qk8": {"lora": 294_912, "total": 294_912},
    "lora_qv8": {"lora": 294_912, "total": 294_912},
    # HuBERT Base's 101,376 and the 8 of the position gate in 12 layers
    "bitfit": {"bias": 101_376 + 96, "total": 101_472},
    "layernorm": {"layer_norm": NORMS, "total": NORMS},
    "ep": {"e_adapter": 12 * E, "p_adapter": 7680, "layer_norm": NORMS, "total": 4_793_856},
    "lp": {"l_adapter": 12 * L, "p_adapter": 7680, "layer_norm": NORMS, "total": 4_781_568},
    "p_only": {"p_adapter": 7680, "layer_norm": NORMS, "total": 44_544},
    # the total minus the mask vector, and minus the CNN
    "full_finetune_all": {"encoder": 94_381_936 - 768, "total": 94_381_168},
    "full_finetune_nocnn": {"encoder": 94_381_168 - 4_200_448, "total": 90_180_720},
}
#: WavLM: SUPERB's leaderboard (paramShared); wav2vec 2.0 Base: the share of 9.2 % that arXiv 2202.03218 prints fits it
TOTALS = {"wavlm_base_plus": 94_381_936, "wavlm_large": 315_453_120, "wav2vec2_base_960": 94_371_712}


@pytest.mark.parametrize("preset", PAPER)
def test_published_counts(preset):
    counted = count_parameters(load_config(preset), architecture("elp_wavlm_base_plus"))
    assert counted["trainable"] == PAPER[preset]
    assert counted["frozen"] == 94_381_936 - PAPER[preset].get("encoder", 0)


def test_figures_of_the_issue():
    counted = count_parameters(load_config("le"), architecture("wavlm_base_plus"))["trainable"]
    assert (counted["e_adapter"], counted["l_adapter"], counted["layer_norm"]) == (4_353_536, 4_737_024, 36_864)


#: BitFit on HuBERT Base, 12 (4 x 768 + 3072 + 768 + 2 x 768)
HUBERT = {"bitfit": 101_376, "houlsby32": 599_424, "lora_qk8": 294_912, "lora_qv8": 294_912, "adapterbias": 46_092}


@pytest.mark.parametrize("preset", HUBERT)
def test_published_counts_on_hubert(preset):
    assert count_parameters(load_config(preset), architecture("hubert_base"))["trainable"]["total"] == HUBERT[preset]


#: arXiv 2202.03218, per cent of wav2vec 2.0 Base, the adapters and a CTC head of 768 x 32 + 32
SHARES = {
    "conventional": (9.2, 1),
    "conventional_top6": (4.85, 2),
    "full_finetune_nocnn": (95.55, 2),  # printed 95.6
    "topk_finetune": (65.5, 1),
}


@pytest.mark.parametrize("preset", SHARES)
def test_published_shares(preset):
    model, head = architecture("wav2vec2_base_960"), 24_608
    counted = count_parameters(load_config(preset), model)["trainable"]
    added = counted.get("e_adapter", 0)
    share, digits = SHARES[preset]
    assert round(100 * (counted["total"] + head) / (model.total + added + head), digits) == share


@pytest.mark.parametrize("name", TOTALS)
def test_published_totals(name):
    assert architecture(name).total == TOTALS[name]


def test_every_preset_counts_on_every_backbone():
    for name in backbone_names():
        for preset in preset_names():
            counted = count_parameters(load_config(preset), architecture(name))
            components = dict(counted["trainable"])
            assert components.pop("total") == sum(components.values())
            assert counted["frozen"] > 0


def test_every_backbone_is_in_s3prl():
    import upstream_elp

    upstream_elp.register()
    from s3prl import hub

    for name in backbone_names():
        assert callable(getattr(hub, name)) and callable(getattr(hub, f"elp_{name}"))


def test_unknown_backbones_are_named():
    with pytest.raises(ElpError, match=r"unknown backbone 'elp_wavlm_huge'; the backbones are: .*wavlm_large"):
        architecture("elp_wavlm_huge")


def test_layers_outside_a_backbone_are_named():
    with pytest.raises(ElpError, match=r"e_adapter\.layers: '20' selects layer 20"):
        count_parameters(load_config({"base": "le", "e_adapter": {"layers": "20"}}), architecture("wavlm_base"))


def test_counting_imports_no_torch():
    """The command that prints counts must answer at once."""
    code = "import sys, upstream_elp.upstream.counting, upstream_elp.commands.backbones as _"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("backbone", COUNTED)
@pytest.mark.parametrize("config", CONFIGS)
def test_counts_are_what_injection_declares(config, backbone, monkeypatch):
    expert = make_expert(backbone, config)
    toy_shape = {
        "CONV": tuple((channels, kernel) for channels, kernel, _ in TINY_CONV),
        "POSITION_KERNEL": 16,
        "POSITION_GROUPS": 4,
        "DATA2VEC_POSITIONS": (16, 5),
        "WAVLM_BUCKETS": 32,
    }
    for name, value in toy_shape.items():
        monkeypatch.setattr(f"upstream_elp.backbones.architecture.{name}", value)
    family, pre_norm, layer_norm_front = BACKBONES[backbone]
    toy = Architecture("toy", family, 3, 32, 128, 4, "layer" if layer_norm_front else "group", False, pre_norm)
    counted = count_parameters(load_config(CONFIGS[config]), toy)["trainable"]
    total = counted.pop("total")
    assert counted == expert.injection.counts(expert)
    assert total == sum(p.numel() for p in expert.parameters() if p.requires_grad)


@pytest.mark.large
@pytest.mark.parametrize("preset", ["elp", "conventional", "full_finetune_all", "lora_qk8", "bitfit"])
@pytest.mark.parametrize(
    ("name", "family", "size"),
    [
        ("wavlm_base_plus", "wavlm", "base"),
        ("wavlm_large", "wavlm", "large"),
        ("hubert_base", "hubert", "base"),
        ("wav2vec2_base_960", "wav2vec2", "base"),
        ("wav2vec2_large_ll60k", "wav2vec2", "large"),
    ],
)
def test_full_size_models_load_inject_and_train(name, family, size, preset, tmp_path):
    from upstream_elp.mini.backbone import write_backbone
    from upstream_elp.mini.sizes import size_options
    from upstream_elp.upstream.build import build_upstream

    path = write_backbone(tmp_path / "random.pt", family=family, **size_options(size, family))
    expert = build_upstream(name, ckpt=path, model_config=preset)
    path.unlink()
    counted = count_parameters(expert.config, architecture(name))
    assert {"total": sum(expert.injection.counts(expert).values()), **expert.injection.counts(expert)} == (
        counted["trainable"]
    )
    pretraining = ("quantizer", "project_q", "project_inp", "final_proj", "label_embs_concat", "target_glu")
    frozen = sum(
        parameter.numel()
        for key, parameter in expert.backbone.model.named_parameters()
        if not parameter.requires_grad and not key.startswith(pretraining)
    )
    assert frozen == counted["frozen"]
    add_noise(expert, 0.01)  # an initial zero blocks the gradient of the other factor
    features = expert.train()(waves(8000, 4000))["hidden_states"]
    random_loss(features).backward()
    for key, parameter in expert.injection.parameters(expert).items():
        assert expert.injection.declared[key].zero_gradient or parameter.grad.abs().max() > 0, key
    assert all(torch.isfinite(feature).all() for feature in features)
    del expert, features
    gc.collect()
