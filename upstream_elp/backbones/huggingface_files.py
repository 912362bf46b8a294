"""Facts from the files of a Hugging Face model: family, waveform CNN, preparation of waves; without torch.

A model is a folder or a name on the hub, whose files are downloaded one by one.
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
"""The file that transformers 5 writes instead, with the feature extractor inside."""
NESTED = ("feature_extractor", "audio_processor")
"""Keys of the feature extractor in :data:`PROCESSOR_FILE`, which takes precedence if it exists, as in transformers."""
MODEL_CLASSES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
"""Classes in transformers by ``model_type`` in ``config.json``."""


def is_hugging_face_folder(path: str | os.PathLike) -> bool:
    """Return whether ``path`` is a folder with a model configuration of Hugging Face."""
    return (Path(path) / CONFIG_FILE).is_file()


def hugging_face_family(place: str, *, refresh: bool = False) -> str:
    """Return the family of the model in a folder or on the hub, according to its configuration.

    Raises:
        ElpError: the configuration cannot be read, or the model is not supported.
    """
    config = read_json(place, CONFIG_FILE, refresh)
    check_options(config, place)
    return f"hf_{config['model_type']}"


def check_options(config: Mapping[str, Any], place: str) -> None:
    """Refuse a model of another kind, and options that the adapters do not support.

    Args:
        config: the content of ``config.json``.
        place: the model's place, to name in errors.

    Raises:
        ElpError: an option is not supported; the message names it.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_CLASSES:
        raise ElpError(
            f"{place} is a Hugging Face model of type {shown(kind)}, which is not supported; "
            f"the types are: {', '.join(MODEL_CLASSES)}"
        )
    if config.get("adapter_attn_dim"):
        raise ElpError(f"{place} has its own language adapters (adapter_attn_dim), which are not supported")
    if not config.get("feat_proj_layer_norm", True):
        raise ElpError(f"{place} lacks the norm before its projection (feat_proj_layer_norm), which is not supported")


def front_of(config: Mapping[str, Any], place: str) -> FrontEnd:
    """Return the waveform CNN of a model from the content of its ``config.json``; errors name ``place``.

    Raises:
        ElpError: kernels or strides are not whole numbers, or do not match.
    """
    kernels = config.get("conv_kernel", [kernel for kernel, _ in STANDARD.conv])
    strides = config.get("conv_stride", [stride for _, stride in STANDARD.conv])
    try:
        return FrontEnd(tuple((int(kernel), int(stride)) for kernel, stride in zip(kernels, strides, strict=True)))
    except (TypeError, ValueError) as error:
        raise ElpError(
            f"{place}/{CONFIG_FILE}: conv_kernel and conv_stride must be lists of whole numbers, one per convolution, "
            f"but are {shown(kernels)} and {shown(strides)}"
        ) from error


def normalizes_waves(place: str, *, refresh: bool = False) -> bool:
    """Return whether the model expects waves of mean 0 and variance 1.

    ``return_attention_mask`` in the same file has no effect: padding is always masked, as in S3PRL's experts.
    """
    name, config = _feature_extractor(place, refresh)
    if (rate := config.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise ElpError(f"{place}/{name}: sampling_rate must be {SAMPLE_RATE} Hz, as in all tasks, but is {rate} Hz")
    return bool(config.get("do_normalize", True))


def _feature_extractor(place: str, refresh: bool) -> tuple[str, dict[str, Any]]:
    """Return the name of the feature extractor's file, and its configuration."""
    try:
        processor = read_json(place, PROCESSOR_FILE, refresh)
    except MissingFile:  # saved by transformers 4, or without a processor
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
        raise ElpError(f"{place} is a file, but a model in Hugging Face's format is a folder; use -u elp_local instead")
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = Path(hf_hub_download(place, name, force_download=refresh))
        except EntryNotFoundError as error:  # also without a network if the file was never downloaded
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
        raise ElpError(f"{path} must contain a JSON object")
    return found


def _not_had(place: str, name: str, error: Exception) -> str:
    return (
        f"{place} is not a folder, and {name} cannot be downloaded from Hugging Face's hub under that name: "
        f"{' '.join(str(error).split())}"
    )
