"""What fixes a random backbone, and the named sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from upstream_elp.base.errors import ElpError

S3PRL_FAMILIES = ("wavlm", "hubert", "wav2vec2", "data2vec", "unispeech_sat")
HUGGING_FACE_FAMILIES = {"hf_wavlm": "wavlm", "hf_hubert": "hubert", "hf_wav2vec2": "wav2vec2"}
"""Written as a folder in Hugging Face's format, with the weights that the family beside it has in S3PRL's."""
FAMILIES = (*S3PRL_FAMILIES, *HUGGING_FACE_FAMILIES)
EXTRACTOR_MODES = ("default", "layer_norm")
SAMPLE_RATE = 16000

ConvLayers = Sequence[tuple[int, int, int]]

#: (channels, kernel, stride); total stride 320, receptive field 400 samples. The high-rate layers are the costly ones.
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
#: What the released models of one family and size differ in beyond `SIZES`.
FAMILY_SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("wav2vec2", "large"): {"conv_bias": True},
    ("hf_wav2vec2", "large"): {"conv_bias": True},
    **{("data2vec", size): _DATA2VEC for size in SIZES},
}


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """Everything that fixes a random backbone; see :func:`upstream_elp.mini.backbone.write_backbone`."""

    family: str
    layers: int
    dim: int
    ffn: int
    heads: int
    conv: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    layer_norm_first: bool
    extractor_mode: str
    normalize: bool
    conv_pos: int
    conv_pos_groups: int
    conv_pos_depth: int
    dropout: float
    attention_dropout: float
    num_buckets: int
    max_distance: int
    final_dim: int
    targets: int

    def __post_init__(self) -> None:
        require_choice("family", self.family, FAMILIES)
        require_choice("extractor_mode", self.extractor_mode, EXTRACTOR_MODES)
        positive = ("layers", "dim", "ffn", "heads", "conv_pos", "conv_pos_groups", "conv_pos_depth", "num_buckets")
        for name in (*positive, "final_dim"):
            if getattr(self, name) < 1:
                raise ElpError(f"backbone {name} is {getattr(self, name)}; it must be at least 1")
        for divisor in ("heads", "conv_pos_groups"):
            if self.dim % getattr(self, divisor):
                parts = getattr(self, divisor)
                raise ElpError(f"backbone dim {self.dim} is not a multiple of {divisor} {parts}; change one of them")
        if self.conv_pos_depth > 1 and self.family != "data2vec":
            raise ElpError(f"backbone conv_pos_depth is {self.conv_pos_depth}, but only data2vec has more than 1")
        if not self.conv or min(min(layer) for layer in self.conv) < 1:
            raise ElpError(f"backbone conv is {list(self.conv)}; it must name at least one layer, in positive numbers")


def size_options(size: str, family: str) -> dict[str, Any]:
    """Keyword arguments of ``write_backbone`` for a named size (`mini`, `base`, `large`) of a family."""
    require_choice("size", size, tuple(SIZES))
    require_choice("family", family, FAMILIES)
    return {**SIZES[size], **FAMILY_SIZES.get((family, size), {})}


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise an :class:`ElpError` that lists the choices."""
    if value not in choices:
        raise ElpError(f"unknown backbone {name} {value!r}; the choices are: {', '.join(choices)}")
