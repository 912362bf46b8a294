"""What the files of a Hugging Face model say of it: family, waveform CNN, how its waves are prepared. No torch.

A model is a folder, or a name on the hub, whose files are fetched one by one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upstream_elp.audio.front import SAMPLE_RATE, STANDARD, FrontEnd
from upstream_elp.backbones.family import HUB_PREFIX
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.foreign import recognised

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""What transformers 5 writes instead, with the feature extractor inside."""
NESTED = ("feature_extractor", "audio_processor")
"""Keys of the feature extractor in :data:`PROCESSOR_FILE`; where there is one, it counts, as in transformers."""
MODEL_CLASSES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
"""``model_type`` in ``config.json`` to the class in transformers."""


def is_hugging_face_folder(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder with a model configuration of Hugging Face."""
    return (Path(path) / CONFIG_FILE).is_file()


def hugging_face_family(place: str, *, refresh: bool = False) -> str:
    """Family of the model in a folder or on the hub, from its configuration.

    Raises:
        ElpError: no configuration, or a model that is not supported.
    """
    config = read_json(place, CONFIG_FILE, refresh)
    check_options(config, place)
    return f"hf_{config['model_type']}"


def check_options(config: Mapping[str, Any], place: str) -> None:
    """Refuse a model of another kind, and options that no adapter is known for.

    Args:
        config: the content of ``config.json``.
        place: to name in errors.

    Raises:
        ElpError: naming the option.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_CLASSES:
        raise ElpError(
            f"{place} is a Hugging Face model of type {shown(kind)}; supported are {', '.join(MODEL_CLASSES)}"
        )
    if config.get("adapter_attn_dim"):
        raise ElpError(f"{place} has language adapters of its own (adapter_attn_dim), which are not supported")
    if not config.get("feat_proj_layer_norm", True):
        raise ElpError(f"{place} has no norm before its projection (feat_proj_layer_norm), which is not supported")


def front_of(config: Mapping[str, Any], place: str) -> FrontEnd:
    """The waveform CNN of a model, from the content of its ``config.json``; ``place`` is named in errors.

    Raises:
        ElpError: a configuration without whole numbers for it.
    """
    kernels = config.get("conv_kernel", [kernel for kernel, _ in STANDARD.conv])
    strides = config.get("conv_stride", [stride for _, stride in STANDARD.conv])
    try:
        return FrontEnd(tuple((int(kernel), int(stride)) for kernel, stride in zip(kernels, strides, strict=True)))
    except (TypeError, ValueError) as error:
        raise ElpError(
            f"{place}/{CONFIG_FILE} has conv_kernel {shown(kernels)} and conv_stride {shown(strides)}; they must be "
            "lists of whole numbers, one per convolution"
        ) from error


def normalizes_waves(place: str, *, refresh: bool = False) -> bool:
    """Whether the model wants waves of mean 0 and variance 1.

    ``return_attention_mask`` in the same file has no effect: padding is always masked, as S3PRL's experts do.
    """
    name, config = _feature_extractor(place, refresh)
    if (rate := config.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise ElpError(f"{place}/{name} asks for {rate} Hz, but all tasks here run at {SAMPLE_RATE} Hz")
    return bool(config.get("do_normalize", True))


def _feature_extractor(place: str, refresh: bool) -> tuple[str, dict[str, Any]]:
    """The feature extractor's configuration, and the file that it stands in."""
    try:
        processor = read_json(place, PROCESSOR_FILE, refresh)
    except MissingFile:  # of transformers 4, or of a feature extractor that was saved without a processor
        processor = {}
    for key in NESTED:
        if isinstance(nested := processor.get(key), dict):
            return PROCESSOR_FILE, nested
    try:
        return PREPROCESSOR_FILE, read_json(place, PREPROCESSOR_FILE, refresh)
    except MissingFile as error:
        raise ElpError(f"{error}, or {PROCESSOR_FILE} with the key {NESTED[0]}") from error


class MissingFile(ElpError):
    """A model folder or a model on the hub lacks a file."""


def read_json(place: str, name: str, refresh: bool) -> dict[str, Any]:
    """Read one JSON file of a model folder, or of a model on the hub."""
    place = place.removeprefix(HUB_PREFIX)
    if Path(place).is_dir():
        path = Path(place) / name
    elif Path(place).exists():
        raise ElpError(f"{place} is a file, but a model in Hugging Face's format is a folder; use -u elp_local for it")
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = Path(hf_hub_download(place, name, force_download=refresh))
        except EntryNotFoundError as error:  # also without a network, where the file was never downloaded
            raise MissingFile(_not_had(place, name, error)) from error
        except (OSError, ValueError) as error:  # huggingface_hub's own errors are of these kinds
            raise ElpError(_not_had(place, name, error)) from error
    try:
        text, fault = texts.decode(path.read_bytes())
        if fault:
            raise ValueError(fault)
        found = json.loads(text)
    except FileNotFoundError as error:
        raise MissingFile(f"{place} has no {name}; a Hugging Face model needs it next to its weights") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = recognised(path) or " ".join(str(error).split())
        raise ElpError(f"{path} is not a readable JSON file: {reason}") from error
    if not isinstance(found, dict):
        raise ElpError(f"{path} must hold a JSON object")
    return found


def _not_had(place: str, name: str, error: Exception) -> str:
    return (
        f"{place} is no folder, and {name} cannot be had from Hugging Face's hub under that name: "
        f"{' '.join(str(error).split())}"
    )
