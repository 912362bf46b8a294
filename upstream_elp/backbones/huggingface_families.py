"""The families in Hugging Face's format: wav2vec 2.0, HuBERT and WavLM, whose modules have the same names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.family import HUGGING_FACE, BackboneFile, Family
from upstream_elp.backbones.huggingface_files import front_of
from upstream_elp.backbones.s3prl_families import TOYS
from upstream_elp.backbones.shapes import BackboneShape

if TYPE_CHECKING:
    from torch import nn


def _is_kind(kind: str, content: Mapping[str, Any]) -> bool:
    return content.get("model_type") == kind


def _front(found: BackboneFile) -> FrontEnd:
    return front_of(found.state, found.place)


def _load(found: BackboneFile) -> nn.Module:
    from upstream_elp.backbones.huggingface import HuggingFaceExpert

    return HuggingFaceExpert(found.place, refresh=found.refresh)


def _write(path: Path, shape: BackboneShape, seed: int) -> None:
    from upstream_elp.backbones.huggingface import write_hugging_face
    from upstream_elp.backbones.random_models import build_hugging_face

    path.mkdir()
    write_hugging_face(build_hugging_face(shape, seed=seed), path, normalize=shape.normalize)


def _family(prefix: str, title: str, *, attention_kind: str = "hugging_face") -> Family:
    """Return one family; ``prefix`` is the prefix of the classes in transformers."""
    kind = prefix.lower()
    module = f"transformers.models.{kind}.modeling_{kind}"
    pre_norm = f"{module}.{prefix}EncoderLayerStableLayerNorm"
    return Family(
        name=f"hf_{kind}",
        title=f"{title} (Hugging Face)",
        hub_local=f"hf_{kind}_custom",
        model_type=f"{module}.{prefix}Model",
        layer_types=(f"{module}.{prefix}EncoderLayer", pre_norm),
        recognise=partial(_is_kind, kind),
        front=_front,
        load=_load,
        write=_write,
        format=HUGGING_FACE,
        gated=kind == "wavlm",
        toys=TOYS,
        mask_argument="attention_mask",
        mask_marks_padding=False,
        cnn_norm="feature_projection.layer_norm",
        projection="feature_projection.projection",
        positions="pos_conv_embed",
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


HUGGING_FACE_FAMILIES = (
    _family("Wav2Vec2", "wav2vec 2.0, XLSR, XLS-R"),
    _family("Hubert", "HuBERT"),
    _family("WavLM", "WavLM", attention_kind="hugging_face_wavlm"),
)
