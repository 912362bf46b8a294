"""Where adapters go: per backbone family, a table of attribute paths. Data, no torch and no S3PRL.

A family is recognised by the qualified class names of its model and its encoder layers, so that an unknown layer type
is found out before anything is injected. Adding a family is one entry here and one toy in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """Names inside one kind of model; paths are relative to the model, site names to an encoder layer."""

    name: str
    title: str
    """What people call it."""
    hub_local: str
    """S3PRL's hub entry that loads a local checkpoint; of Hugging Face's WavLM there is only ours, with ``elp_``."""
    model_type: str
    """Qualified class name of the model inside the expert."""
    layer_types: tuple[str, ...]
    """Qualified class names that an encoder layer may have."""
    told_apart: tuple[str, Any] | None = None
    """Attribute of the model and its value, where two families share the classes."""
    encoder: str = "encoder"
    """Called with x of shape (batch, frames, dim) and a mask (batch, frames) by keyword, or None."""
    mask_argument: str = "padding_mask"
    mask_marks_padding: bool = True
    """Whether the mask is true on padding; else it is true on the utterance."""
    layers: str = "encoder.layers"
    cnn: str = "feature_extractor"
    """Its ``conv_layers`` are the blocks of the waveform front end."""
    cnn_norm: str = "layer_norm"
    """LayerNorm over the CNN's channels, called before the projection."""
    projection: str = "post_extract_proj"
    """Linear from the CNN's width to the encoder's; None in the model where both are equal."""
    attention_output: str = "dropout1"
    """Parameter-free dropout, called on the attention's output before the residual addition."""
    ffn_output: str = "dropout3"
    """The same after the feed-forward block. Tensors at both are (frames, batch, dim) in S3PRL's layers, batch first in
    Hugging Face's."""
    attention: str = "self_attn"
    attention_kind: str = "fairseq"
    """Which of :data:`upstream_elp.adapters.attention.KINDS` the attention is."""
    pre_norm: str = "layer_norm_first"
    """Whether norms stand before the blocks instead of after the residual additions: an attribute of a layer that says
    so, or the qualified class name of the layers that are like that."""
    attention_norm: str = "self_attn_layer_norm"
    ffn_norm: str = "final_layer_norm"
    q: str = "self_attn.q_proj"
    """Linear layers. The attention's are read and not called in S3PRL's layers and in Hugging Face's WavLM."""
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    fc1: str = "fc1"
    """Called, as is ``fc2``, whose input is the feed-forward block's hidden activations."""
    fc2: str = "fc2"
    cnn_gradient: str | None = "feature_grad_mult"
    """Attribute of the model; at 0 the CNN runs without gradients, at 1 it can be trained. None: it always can."""
    zero_gradient: tuple[str, ...] = ("self_attn.k_proj.bias",)
    """Layer tensors whose gradient is zero by nature: a key bias shifts all scores of a query equally."""


HUB_PREFIX = "hf:"
"""Before the name of a model on Hugging Face's hub, where it could be taken for a path or an S3PRL name."""
LAYER_SITES = (
    "attention_output", "ffn_output", "attention", "attention_norm", "ffn_norm", "q", "k", "v", "out", "fc1", "fc2",
)  # fmt: skip
"""Fields of :class:`Family` that are paths of modules in an encoder layer."""

_S3PRL = "s3prl.upstream"
_FAIRSEQ_LAYER = (f"{_S3PRL}.wav2vec2.wav2vec2_model.TransformerSentenceEncoderLayer",)
_WAVLM = Family(
    name="wavlm",
    title="WavLM",
    hub_local="wavlm_local",
    model_type=f"{_S3PRL}.wavlm.WavLM.WavLM",
    layer_types=(f"{_S3PRL}.wavlm.WavLM.TransformerSentenceEncoderLayer",),
    told_apart=("encoder.relative_position_embedding", True),
)


def _hugging_face(name: str, title: str, prefix: str, attention_kind: str = "hugging_face") -> Family:
    """Hugging Face's wav2vec 2.0, HuBERT and WavLM have the same names inside; ``prefix`` is that of the classes."""
    module = f"transformers.models.{prefix.lower()}.modeling_{prefix.lower()}"
    pre_norm = f"{module}.{prefix}EncoderLayerStableLayerNorm"
    return Family(
        name=name,
        title=title,
        hub_local=f"{name}_custom",
        model_type=f"{module}.{prefix}Model",
        layer_types=(f"{module}.{prefix}EncoderLayer", pre_norm),
        mask_argument="attention_mask",
        mask_marks_padding=False,
        cnn_norm="feature_projection.layer_norm",
        projection="feature_projection.projection",
        attention_output="dropout",
        ffn_output="feed_forward.output_dropout",
        attention="attention",
        attention_kind=attention_kind,
        pre_norm=pre_norm,
        attention_norm="layer_norm",
        q="attention.q_proj",
        k="attention.k_proj",
        v="attention.v_proj",
        out="attention.out_proj",
        fc1="feed_forward.intermediate_dense",
        fc2="feed_forward.output_dense",
        cnn_gradient=None,
        zero_gradient=("attention.k_proj.bias",),
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _WAVLM,
        Family(
            name="hubert",
            title="HuBERT, ContentVec",
            hub_local="hubert_local",
            model_type=f"{_S3PRL}.hubert.hubert_model.HubertModel",
            layer_types=_FAIRSEQ_LAYER,
        ),
        Family(
            name="wav2vec2",
            title="wav2vec 2.0, XLSR, XLS-R",
            hub_local="wav2vec2_local",
            model_type=f"{_S3PRL}.wav2vec2.wav2vec2_model.Wav2Vec2Model",
            layer_types=_FAIRSEQ_LAYER,
        ),
        Family(
            name="data2vec",
            title="data2vec",
            hub_local="data2vec_local",
            model_type=f"{_S3PRL}.data2vec.data2vec_model.Data2VecAudioModel",
            layer_types=_FAIRSEQ_LAYER,
        ),
        replace(
            _WAVLM,
            name="unispeech_sat",
            title="UniSpeech-SAT",
            hub_local="unispeech_sat_local",
            told_apart=("encoder.relative_position_embedding", False),
        ),
        _hugging_face("hf_wav2vec2", "wav2vec 2.0, XLSR, XLS-R (Hugging Face)", "Wav2Vec2"),
        _hugging_face("hf_hubert", "HuBERT (Hugging Face)", "Hubert"),
        _hugging_face("hf_wavlm", "WavLM (Hugging Face)", "WavLM", attention_kind="hugging_face_wavlm"),
    )
}


def is_remote(place: str) -> bool:
    """Whether a backbone's place is a URL or a name on Hugging Face's hub, and not a path."""
    return "://" in place or place.startswith(HUB_PREFIX)
