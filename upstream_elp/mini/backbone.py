"""Random backbones in S3PRL's own checkpoint formats, so that everything runs without a download.

The weights come from S3PRL's model classes and a seed: same arguments, same file, byte for byte.
"""

import ast
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upstream_elp.errors import ElpError
from upstream_elp.files import whole_file

FAMILIES = ("wavlm", "hubert", "wav2vec2")
EXTRACTOR_MODES = ("default", "layer_norm")
TOTAL_STRIDE = 320  # S3PRL's experts report this downsampling rate whatever the file says
REFERENCE_DIM = 768  # width for which fairseq's standard deviation of 0.02 was chosen

ConvLayers = Sequence[tuple[int, int, int]]

#: (channels, kernel, stride); total stride 320, receptive field 400 samples. The high-rate layers are the costly ones.
NARROW_CONV: ConvLayers = (
    (48, 10, 5), (64, 3, 2), (96, 3, 2), (128, 3, 2), (128, 3, 2), (128, 2, 2), (128, 2, 2),
)  # fmt: skip
FULL_CONV: ConvLayers = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)

#: Keyword arguments of :func:`write_backbone` for a named size; `large` is pre-norm with a layer-norm front end.
SIZES: dict[str, dict[str, Any]] = {
    "mini": {"layers": 4, "dim": 256, "heads": 4, "conv": NARROW_CONV},
    "base": {"layers": 12, "dim": 768, "ffn": 3072, "heads": 12, "conv": FULL_CONV, "final_dim": 256},
    "large": {
        "layers": 24, "dim": 1024, "ffn": 4096, "heads": 16, "conv": FULL_CONV, "final_dim": 768,
        "layer_norm_first": True, "extractor_mode": "layer_norm", "normalize": True,
    },
}  # fmt: skip
#: What the released models of one family and size differ in beyond `SIZES`.
FAMILY_SIZES: dict[tuple[str, str], dict[str, Any]] = {("wav2vec2", "large"): {"conv_bias": True}}


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """Everything that fixes a random backbone; see :func:`write_backbone` for the meaning."""

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
    dropout: float
    attention_dropout: float
    num_buckets: int
    max_distance: int
    final_dim: int
    targets: int

    def __post_init__(self) -> None:
        _require_choice("family", self.family, FAMILIES)
        _require_choice("extractor_mode", self.extractor_mode, EXTRACTOR_MODES)
        for name in ("layers", "dim", "ffn", "heads", "conv_pos", "conv_pos_groups", "num_buckets", "final_dim"):
            if getattr(self, name) < 1:
                raise ElpError(f"backbone {name} is {getattr(self, name)}; it must be at least 1")
        for divisor in ("heads", "conv_pos_groups"):
            if self.dim % getattr(self, divisor):
                parts = getattr(self, divisor)
                raise ElpError(f"backbone dim {self.dim} is not a multiple of {divisor} {parts}; change one of them")
        stride = prod(stride for _, _, stride in self.conv)
        if stride != TOTAL_STRIDE:
            raise ElpError(
                f"backbone conv has a total stride of {stride}; S3PRL's experts need {TOTAL_STRIDE} (50 frames/s)"
            )


def size_options(size: str, family: str) -> dict[str, Any]:
    """Return the arguments of :func:`write_backbone` for a named size (`mini`, `base`, `large`) of a family."""
    _require_choice("size", size, tuple(SIZES))
    _require_choice("family", family, FAMILIES)
    return {**SIZES[size], **FAMILY_SIZES.get((family, size), {})}


def write_backbone(
    path: str | os.PathLike[str],
    *,
    family: str = "wavlm",
    layers: int = 4,
    dim: int = 256,
    ffn: int | None = None,
    heads: int = 4,
    conv: ConvLayers | None = None,
    conv_bias: bool = False,
    layer_norm_first: bool = False,
    extractor_mode: str = "default",
    normalize: bool = False,
    conv_pos: int = 128,
    conv_pos_groups: int = 16,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    num_buckets: int = 320,
    max_distance: int = 800,
    final_dim: int | None = None,
    targets: int = 504,
    seed: int = 0,
) -> Path:
    """Write a random backbone that S3PRL's `<family>_local` loads (with `weights_only=True`), and return its path.

    Args:
        path: the file to write; it appears whole or not at all.
        family: `wavlm`, `hubert` or `wav2vec2`.
        layers: number of Transformer layers.
        dim: width of the hidden states.
        ffn: inner width of the feed-forward blocks; 4 x dim by default.
        heads: attention heads; must divide `dim`.
        conv: (channels, kernel, stride) of each waveform layer, total stride 320; a narrow stack by default.
        conv_bias: whether the waveform layers have biases.
        layer_norm_first: pre-norm (Large) instead of post-norm (Base) layers.
        extractor_mode: `default` (one group norm, Base) or `layer_norm` (a layer norm per waveform layer, Large).
        normalize: whether the expert normalises each waveform to zero mean and unit variance.
        conv_pos: kernel of the positional convolution, in frames.
        conv_pos_groups: groups of the positional convolution; must divide `dim`.
        dropout: dropout after attention and feed-forward blocks.
        attention_dropout: dropout of the attention weights.
        num_buckets: relative position buckets (WavLM).
        max_distance: largest distinguished distance in frames (WavLM).
        final_dim: width of the pre-training projection, unused downstream; min(256, dim) by default.
        targets: number of pre-training classes (HuBERT), unused downstream.
        seed: of all weights.

    Raises:
        ElpError: a value is not possible; the sentence names it.
    """
    shape = BackboneShape(
        family=family,
        layers=layers,
        dim=dim,
        ffn=4 * dim if ffn is None else ffn,
        heads=heads,
        conv=tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in conv or NARROW_CONV),
        conv_bias=conv_bias,
        layer_norm_first=layer_norm_first,
        extractor_mode=extractor_mode,
        normalize=normalize,
        conv_pos=conv_pos,
        conv_pos_groups=conv_pos_groups,
        dropout=dropout,
        attention_dropout=attention_dropout,
        num_buckets=num_buckets,
        max_distance=max_distance,
        final_dim=min(256, dim + dim % 2) if final_dim is None else final_dim,
        targets=targets,
    )
    return _save(build_checkpoint(shape, seed=seed), Path(path))


def build_checkpoint(shape: BackboneShape, *, seed: int = 0) -> dict[str, Any]:
    """Return the checkpoint as S3PRL's loader expects it: plain containers, numbers, strings and tensors.

    Keys per family: `{cfg, model}` for WavLM; `{task_cfg, model_cfg, model_weight}` for wav2vec 2.0 and, with
    `dictionaries_symbols`, HuBERT (S3PRL `upstream/*/expert.py`, `convert.py`). The global random state is untouched.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # the classes use the old weight_norm, and so do real checkpoints
        torch.manual_seed(seed)
        config, model = _BUILDERS[shape.family](shape)
    _widen_init(model, shape.dim)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if shape.family == "wavlm":
        return {"cfg": config, "model": weights}
    task = {"sample_rate": 16000, "normalize": shape.normalize}
    checkpoint = {"task_cfg": task, "model_cfg": config, "model_weight": weights}
    if shape.family == "hubert":
        checkpoint["task_cfg"]["label_rate"] = 50.0
        checkpoint["dictionaries_symbols"] = [_symbols(shape.targets)]
    return checkpoint


def count_parameters(path: str | os.PathLike[str]) -> int:
    """Count the numbers stored in a checkpoint of any of the three families, pre-training head included."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    weights = checkpoint["model"] if "model" in checkpoint else checkpoint["model_weight"]
    return sum(tensor.numel() for tensor in weights.values())


def parse_conv(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read waveform layers from text such as ``[(48, 10, 5), (64, 3, 2)]`` (literals only, nothing is evaluated)."""
    try:
        return tuple((int(channels), int(kernel), int(stride)) for channels, kernel, stride in ast.literal_eval(text))
    except (SyntaxError, ValueError, TypeError) as error:
        raise ElpError(f"conv {text!r} is not a list of (channels, kernel, stride)") from error


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


def _build_wavlm(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    config = {
        **_shared_config(shape),
        "normalize": shape.normalize,
        "relative_position_embedding": True,
        "num_buckets": shape.num_buckets,
        "max_distance": shape.max_distance,
        "gru_rel_pos": True,
    }
    return config, WavLM(WavLMConfig(config))


def _build_hubert(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config = {**_shared_config(shape), "label_rate": 50.0, "final_dim": shape.final_dim}
    task = HubertPretrainingConfig(label_rate=50.0, normalize=shape.normalize)
    return config, HubertModel(HubertConfig(**config), task, [_symbols(shape.targets)])


def _build_wav2vec2(shape: BackboneShape) -> tuple[dict[str, Any], nn.Module]:
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    config = {**_shared_config(shape), "final_dim": shape.final_dim, "quantize_targets": True}
    return config, Wav2Vec2Model(Wav2Vec2Config(**config))


_BUILDERS: dict[str, Callable[[BackboneShape], tuple[dict[str, Any], nn.Module]]] = {
    "wavlm": _build_wavlm,
    "hubert": _build_hubert,
    "wav2vec2": _build_wav2vec2,
}


def _widen_init(model: nn.Module, dim: int) -> None:
    """Scale the layers' linear weights so that a narrow model mixes its inputs as strongly as a 768-wide one.

    fairseq draws them with a fixed standard deviation of 0.02. At width 32 a feed-forward block would then add about
    one thousandth of its input, all layers would be copies of the first, and no test of a deep site could fail.
    """
    if dim >= REFERENCE_DIM:
        return
    for layer in model.encoder.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.weight.data.mul_((REFERENCE_DIM / dim) ** 0.5)


def _symbols(targets: int) -> list[str]:
    return [str(index) for index in range(targets)]


def _require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ElpError(f"unknown backbone {name} {value!r}; the choices are: {', '.join(choices)}")


def _save(checkpoint: dict[str, Any], path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "wb") as stream:  # a stream, not a name: the file's name would be part of its bytes
            torch.save(checkpoint, stream)
    except OSError as error:
        raise ElpError(f"cannot write the backbone {path}: {error.strerror}; choose a writable place") from error
    return path
