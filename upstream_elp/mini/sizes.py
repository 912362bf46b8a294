"""The named sizes of random backbones."""

from __future__ import annotations

from typing import Any

from upstream_elp.backbones.families import families
from upstream_elp.backbones.shapes import ConvLayers, require_choice

FAMILIES = tuple(families())
PRETRAINED_FORMATS = ("s3prl", "hf")
"""Formats in which the packaged backbone can be written."""

#: (channels, kernel, stride); total stride 320, receptive field 400 samples. The first layers have the highest rate and
#: would cost the most, so they are the narrowest.
NARROW_CONV: ConvLayers = (
    (48, 10, 5), (64, 3, 2), (96, 3, 2), (128, 3, 2), (128, 3, 2), (128, 2, 2), (128, 2, 2),
)  # fmt: skip
FULL_CONV: ConvLayers = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)

#: Keyword arguments of :func:`upstream_elp.mini.backbone.write_backbone` for a named size; `large` is pre-norm with a
#: layer-norm front end.
SIZES: dict[str, dict[str, Any]] = {
    "mini": {"layers": 4, "dim": 256, "heads": 4, "conv": NARROW_CONV},
    "base": {"layers": 12, "dim": 768, "ffn": 3072, "heads": 12, "conv": FULL_CONV, "final_dim": 256},
    "large": {
        "layers": 24, "dim": 1024, "ffn": 4096, "heads": 16, "conv": FULL_CONV, "final_dim": 768,
        "layer_norm_first": True, "extractor_mode": "layer_norm", "normalize": True,
    },
}  # fmt: skip
_DATA2VEC = {"conv_pos": 95, "conv_pos_depth": 5, "extractor_mode": "layer_norm", "normalize": True}
#: Further options of the released models of one family and size.
FAMILY_SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("wav2vec2", "large"): {"conv_bias": True},
    ("hf_wav2vec2", "large"): {"conv_bias": True},
    **{("data2vec", size): _DATA2VEC for size in SIZES},
}


def size_options(size: str, family: str) -> dict[str, Any]:
    """Return keyword arguments of ``write_backbone`` for a named size (`mini`, `base`, `large`) of a family."""
    require_choice("size", size, tuple(SIZES))
    require_choice("family", family, FAMILIES)
    return {**SIZES[size], **FAMILY_SIZES.get((family, size), {})}
