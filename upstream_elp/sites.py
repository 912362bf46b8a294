"""Where adapters go: per backbone family, a table of attribute paths. Data, no torch and no S3PRL.

A family is recognised by the qualified class names of its model and its encoder layers, so that an unknown layer type
is found out before anything is injected. Adding a family is one entry here and one toy in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Names inside one kind of model; paths are relative to the model, site names to an encoder layer."""

    name: str
    model_type: str
    """Qualified class name of the model inside S3PRL's expert."""
    layer_type: str
    """Qualified class name of every encoder layer."""
    hub_local: str
    """S3PRL hub entry that loads a local checkpoint."""
    encoder: str = "encoder"
    """Called as ``encoder(x, padding_mask=...)`` with x of shape (batch, frames, dim)."""
    mask_argument: str = "padding_mask"
    layers: str = "encoder.layers"
    cnn: str = "feature_extractor"
    cnn_norm: str = "layer_norm"
    """LayerNorm over the CNN's channels, called before the projection."""
    projection: str = "post_extract_proj"
    """Linear from the CNN's width to the encoder's; None in the model where both are equal."""
    attention_output: str = "dropout1"
    """Parameter-free dropout, called on the attention's output before the residual addition."""
    ffn_output: str = "dropout3"
    """The same after the feed-forward block; tensors there are (frames, batch, dim)."""
    attention: str = "self_attn"
    """Called on (frames, batch, dim), with keyword arguments."""
    pre_norm: str = "layer_norm_first"
    """Attribute of a layer: whether norms stand before the blocks instead of after the residual additions."""
    attention_norm: str = "self_attn_layer_norm"
    ffn_norm: str = "final_layer_norm"
    q: str = "self_attn.q_proj"
    """Linear layers. The attention's are not called but read: only ``weight`` and ``bias`` are looked at."""
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    fc1: str = "fc1"
    """Called, as is ``fc2``, whose input is the feed-forward block's hidden activations."""
    fc2: str = "fc2"
    cnn_gradient: str = "feature_grad_mult"
    """Attribute of the model; at 0 the CNN runs without gradients, at 1 it can be trained."""
    zero_gradient: tuple[str, ...] = ("self_attn.k_proj.bias",)
    """Layer tensors whose gradient is zero by nature: a key bias shifts all scores of a query equally."""


_S3PRL = "s3prl.upstream"
_FAIRSEQ_LAYER = f"{_S3PRL}.wav2vec2.wav2vec2_model.TransformerSentenceEncoderLayer"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="wavlm",
            model_type=f"{_S3PRL}.wavlm.WavLM.WavLM",
            layer_type=f"{_S3PRL}.wavlm.WavLM.TransformerSentenceEncoderLayer",
            hub_local="wavlm_local",
        ),
        Family(
            name="hubert",
            model_type=f"{_S3PRL}.hubert.hubert_model.HubertModel",
            layer_type=_FAIRSEQ_LAYER,
            hub_local="hubert_local",
        ),
        Family(
            name="wav2vec2",
            model_type=f"{_S3PRL}.wav2vec2.wav2vec2_model.Wav2Vec2Model",
            layer_type=_FAIRSEQ_LAYER,
            hub_local="wav2vec2_local",
        ),
    )
}
