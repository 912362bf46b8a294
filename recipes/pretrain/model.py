"""The model in pretraining: S3PRL's own WavLM or HuBERT, whose hidden states are read at every depth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.backbones.family import weights_key
from upstream_elp.backbones.random_models import build_checkpoint
from upstream_elp.backbones.shapes import BackboneShape

FAMILIES = ("wavlm", "hubert")
STRIDE = 320  # samples per frame
#: Layer norm in every block, so that features do not depend on padding. The long first stride makes it as fast as the
#: usual seven blocks with a group norm.
CONV = ((96, 64, 20), (128, 4, 2), (160, 4, 2), (192, 4, 2), (256, 2, 2))
SHAPES: dict[str, dict[str, Any]] = {
    "mini": {
        "layers": 4, "dim": 256, "ffn": 1024, "heads": 4, "conv": CONV, "conv_pos": 32, "num_buckets": 64,
        "max_distance": 128, "final_dim": 256,
    },
    "tiny": {  # for tests
        "layers": 4, "dim": 32, "ffn": 64, "heads": 2, "conv": tuple((32, *rest) for _, *rest in CONV), "conv_pos": 8,
        "conv_pos_groups": 4, "num_buckets": 16, "max_distance": 32, "final_dim": 32,
    },
}  # fmt: skip


def shape_of(size: str, family: str) -> BackboneShape:
    """Return the shape of a named size; dropout is in the shape for fine-tuning, pretraining has none."""
    fixed = {"extractor_mode": "layer_norm", "conv_bias": True, "normalize": True}
    return BackboneShape(family=family, **SHAPES[size], **fixed)


def receptive_field(conv: tuple[tuple[int, int, int], ...]) -> int:
    """Return the samples that one frame sees."""
    field, stride = 1, 1
    for _, kernel, step in conv:
        field, stride = field + (kernel - 1) * stride, stride * step
    return field


def new_checkpoint(size: str, family: str, *, seed: int) -> dict[str, Any]:
    """Return a checkpoint in S3PRL's format with random weights."""
    return build_checkpoint(shape_of(size, family), seed=seed)


def parts(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split a checkpoint in S3PRL's format into everything but the weights, and the weights."""
    key = weights_key(checkpoint)
    return {name: value for name, value in checkpoint.items() if name != key}, checkpoint[key]


def joined(described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Undo :func:`parts`."""
    return {**described, "model" if "cfg" in described else "model_weight": dict(weights)}


def build_backbone(checkpoint: Mapping[str, Any]) -> nn.Module:
    """Return S3PRL's model with the weights of a checkpoint, in fp32, without dropout."""
    described, weights = parts(checkpoint)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # S3PRL uses the old weight_norm
        model = _class_of(described)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


def _class_of(described: Mapping[str, Any]) -> nn.Module:
    none = {"dropout": 0.0, "attention_dropout": 0.0}
    if "cfg" in described:
        from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

        return WavLM(WavLMConfig({**described["cfg"], **none}))
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config = HubertConfig(**{**described["model_cfg"], **none})
    return HubertModel(config, HubertPretrainingConfig(**described["task_cfg"]), described["dictionaries_symbols"])


def hidden_states(backbone: nn.Module, waves: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Return the output of each layer, (batch, frames, dim).

    Args:
        backbone: S3PRL's WavLM or HuBERT.
        waves: (batch, samples), normalised, of equal length: there is no padding in pretraining.
        mask: (batch, frames), True where the encoder sees the mask embedding.
    """
    features = backbone.layer_norm(backbone.feature_extractor(waves).transpose(1, 2))  # (batch, frames, conv dim)
    if backbone.post_extract_proj is not None:
        features = backbone.post_extract_proj(features)
    if mask is not None:
        features = torch.where(mask.unsqueeze(-1), backbone.mask_emb.to(features.dtype), features)
    # with a layer to stop at, S3PRL's encoders return every state up to it
    _, layers = backbone.encoder.extract_features(features, None, tgt_layer=len(backbone.encoder.layers) - 1)
    # WavLM's also return their input; all are (frames, batch, dim)
    return [state[0].transpose(0, 1) for state in layers[-len(backbone.encoder.layers) :]]


def compile_backbone(backbone: nn.Module) -> None:
    """Compile the waveform encoder and the layers in place.

    The positional convolution stays eager: compiled, its gradient in bf16 is not finite on CPUs.
    """
    for module in (backbone.feature_extractor, *backbone.encoder.layers):
        module.forward = torch.compile(module.forward, dynamic=False)
