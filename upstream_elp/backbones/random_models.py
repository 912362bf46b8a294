"""Random models with S3PRL's classes, and with the same weights under Hugging Face's names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.audio.front import SAMPLE_RATE
from upstream_elp.backbones.family import weights_key
from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError

REFERENCE_DIM = 768  # width for which fairseq's standard deviation of 0.02 was chosen


def build_checkpoint(shape: BackboneShape, *, seed: int = 0) -> dict[str, Any]:
    """Return a checkpoint as S3PRL's loader expects it: plain containers, numbers, strings and tensors.

    The keys are `{cfg, model}` for WavLM and UniSpeech-SAT, `{task_cfg, model_cfg, model_weight}` for wav2vec 2.0 and
    data2vec (with `_ema` among the weights), and these with `dictionaries_symbols` for HuBERT (S3PRL
    `upstream/*/expert.py`, `convert.py`). The global random state does not change.
    """
    if shape.conv_pos_depth > 1 and shape.family != "data2vec":
        raise ElpError(f"backbone conv_pos_depth must be 1, except for data2vec, but is {shape.conv_pos_depth}")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # the classes use the old weight_norm, and so do real checkpoints
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        config, model = _BUILDERS[shape.family](shape)
    _widen_init(model, shape.dim)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if "model_cfg" not in config:
        return {"cfg": config, "model": weights}
    if shape.family == "data2vec":
        weights["_ema"] = {}  # the teacher; the loader deletes it, but expects it to be there
    return {**config, "model_weight": weights}


def _shared_config(shape: BackboneShape) -> dict[str, Any]:
    return {
        "extractor_mode": shape.extractor_mode,
        "encoder_layers": shape.layers,
        "encoder_embed_dim": shape.dim,
        "encoder_ffn_embed_dim": shape.ffn,
        "encoder_attention_heads": shape.heads,
        "activation_fn": "gelu",
        "layer_norm_first": shape.layer_norm_first,
        "conv_feature_layers": str(list(shape.conv)),
        "conv_bias": shape.conv_bias,
        "conv_pos": shape.conv_pos,
        "conv_pos_groups": shape.conv_pos_groups,
        "dropout": shape.dropout,
        "attention_dropout": shape.attention_dropout,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
    }


def _task_config(shape: BackboneShape) -> dict[str, Any]:
    return {"sample_rate": SAMPLE_RATE, "normalize": shape.normalize}


def _build_wavlm(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    positions = {
        "relative_position_embedding": True,
        "num_buckets": shape.num_buckets,
        "max_distance": shape.max_distance,
        "gru_rel_pos": True,
    }
    config = {**_shared_config(shape), "normalize": shape.normalize}
    if shape.family == "wavlm":
        config |= positions
    return config, WavLM(WavLMConfig(config))


def _build_hubert(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config = {**_shared_config(shape), "label_rate": 50.0, "final_dim": shape.final_dim}
    task = HubertPretrainingConfig(label_rate=50.0, normalize=shape.normalize)
    symbols = [[str(index) for index in range(shape.targets)]]
    described = {
        "task_cfg": {**_task_config(shape), "label_rate": 50.0},
        "model_cfg": config,
        "dictionaries_symbols": symbols,
    }
    return described, HubertModel(HubertConfig(**config), task, symbols)


def _build_wav2vec2(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    config = {**_shared_config(shape), "final_dim": shape.final_dim, "quantize_targets": True}
    return {"task_cfg": _task_config(shape), "model_cfg": config}, Wav2Vec2Model(Wav2Vec2Config(**config))


def _build_data2vec(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.data2vec.data2vec_model import Data2VecAudioConfig, Data2VecAudioModel

    config = {**_shared_config(shape), "pos_conv_depth": shape.conv_pos_depth}
    model = Data2VecAudioModel(Data2VecAudioConfig(**config))
    model.remove_pretraining_modules()  # as the loader does before it reads the weights
    return {"task_cfg": _task_config(shape), "model_cfg": config}, model


_BUILDERS: dict[str, Callable[[BackboneShape], tuple[dict[str, Any], nn.Module]]] = {
    "wavlm": _build_wavlm,
    "unispeech_sat": _build_wavlm,
    "hubert": _build_hubert,
    "wav2vec2": _build_wav2vec2,
    "data2vec": _build_data2vec,
}


def _widen_init(model: nn.Module, dim: int) -> None:
    """Scale the layers' linear weights so that a narrow model mixes its inputs as strongly as one of width 768.

    fairseq draws them with a fixed standard deviation of 0.02. At width 32, a feed-forward block would then add about
    one thousandth of its input, all layers would be copies of the first, and no test of a deep site could fail.
    """
    if dim >= REFERENCE_DIM:
        return
    for layer in model.encoder.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.weight.data.mul_((REFERENCE_DIM / dim) ** 0.5)


#: patterns of S3PRL's names, and Hugging Face's names; other tensors, such as pre-training heads, are omitted
_NAMES = (
    (r"mask_emb", "masked_spec_embed"),
    (r"(feature_extractor\.conv_layers\.\d+)\.0\.(\w+)", r"\1.conv.\2"),
    (r"(feature_extractor\.conv_layers\.\d+)\.2\.(?:1\.)?(\w+)", r"\1.layer_norm.\2"),
    (r"layer_norm\.(\w+)", r"feature_projection.layer_norm.\1"),
    (r"post_extract_proj\.(\w+)", r"feature_projection.projection.\1"),
    (r"encoder\.pos_conv\.0\.bias", "encoder.pos_conv_embed.conv.bias"),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.layer_norm\.(\w+)", r"encoder.layer_norm.\1"),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_linear\.(\w+)", r"\1.attention.gru_rel_pos_linear.\2"),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_a", r"\1.attention.gru_rel_pos_const"),
    (r"(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.(\w+)", r"\1.attention.rel_attn_embed.\2"),
    (r"(encoder\.layers\.\d+)\.self_attn\.(\w+)\.(\w+)", r"\1.attention.\2.\3"),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.(\w+)", r"\1.layer_norm.\2"),
    (r"(encoder\.layers\.\d+)\.final_layer_norm\.(\w+)", r"\1.final_layer_norm.\2"),
    (r"(encoder\.layers\.\d+)\.fc1\.(\w+)", r"\1.feed_forward.intermediate_dense.\2"),
    (r"(encoder\.layers\.\d+)\.fc2\.(\w+)", r"\1.feed_forward.output_dense.\2"),
)


def hugging_face_name(name: str) -> str | None:
    """Return Hugging Face's name of a tensor in S3PRL's WavLM, HuBERT or wav2vec 2.0; None for pre-training tensors."""
    for pattern, replacement in _NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None


def build_hugging_face(shape: BackboneShape, *, seed: int = 0) -> nn.Module:
    """Return Hugging Face's model with the same weights as :func:`build_checkpoint` for the same shape and seed."""
    from dataclasses import replace

    checkpoint = build_checkpoint(replace(shape, family=shape.family.removeprefix("hf_")), seed=seed)
    return hugging_face_model(shape, checkpoint[weights_key(checkpoint)])


def hugging_face_model(shape: BackboneShape, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return Hugging Face's model with weights that have S3PRL's names; those of pre-training are dropped."""
    import transformers

    kind = shape.family.removeprefix("hf_")
    prefix = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[kind]
    config = getattr(transformers, f"{prefix}Config")(
        hidden_size=shape.dim,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
        hidden_dropout=shape.dropout,
        attention_dropout=shape.attention_dropout,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        feat_extract_norm="layer" if shape.extractor_mode == "layer_norm" else "group",
        conv_dim=tuple(channels for channels, _, _ in shape.conv),
        conv_kernel=tuple(kernel for _, kernel, _ in shape.conv),
        conv_stride=tuple(stride for _, _, stride in shape.conv),
        conv_bias=shape.conv_bias,
        num_conv_pos_embeddings=shape.conv_pos,
        num_conv_pos_embedding_groups=shape.conv_pos_groups,
        do_stable_layer_norm=shape.layer_norm_first,
        **({"num_buckets": shape.num_buckets, "max_bucket_distance": shape.max_distance} if kind == "wavlm" else {}),
    )
    with torch.random.fork_rng(devices=[]):
        model = getattr(transformers, f"{prefix}Model")(config)
    named = {hugging_face_name(name): tensor for name, tensor in weights.items()}
    named.pop(None, None)
    if shape.conv[-1][0] == shape.dim:  # S3PRL's models then have no projection
        named["feature_projection.projection.weight"] = torch.eye(shape.dim)
        named["feature_projection.projection.bias"] = torch.zeros(shape.dim)
    model.load_state_dict(named)
    return model
