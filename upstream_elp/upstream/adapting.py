"""Put adapters into a model that the user has already built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from upstream_elp.adapters.config import AdapterConfig, load_config
from upstream_elp.adapters.injection import Switch
from upstream_elp.backbones.family import HUB_PREFIX, HUGGING_FACE, S3PRL
from upstream_elp.backbones.huggingface import HuggingFaceExpert
from upstream_elp.backbones.recognition import find_family
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted_model import AdaptedModel, adapted_class
from upstream_elp.upstream.adapter_folder import HUB_NAME, is_adapter_folder, read_adapter_folder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.face import AdapterFace

EXPERT_BASE = "s3prl.upstream.interfaces.UpstreamBase"


def adapt(
    model: nn.Module,
    config: str | os.PathLike | Mapping[str, Any] | AdapterConfig,
    *,
    name: str | None,
    check: bool,
) -> ElpExpert | AdaptedModel:
    """Put adapters into a model; see :func:`upstream_elp.adapt`, which imports this module when it is called."""
    if any(isinstance(module, Switch) for module in model.modules()):
        raise ElpError("the model has adapters already: adapt a plain one, or name all methods in one configuration")
    if name is not None and not HUB_NAME.fullmatch(name):
        raise ElpError(
            f"name={name!r} is not a name on S3PRL's or Hugging Face's hub: write wavlm_base_plus or "
            f"{HUB_PREFIX}ORGANISATION/NAME, and do not pass name for a local checkpoint"
        )
    folder = None
    if isinstance(config, str | os.PathLike) and is_adapter_folder(config):
        folder = read_adapter_folder(config)
        options = folder.config
    else:
        options = config if isinstance(config, AdapterConfig) else load_config(config)
    adapted = _adapted(model, options, name=name, check=check)
    if folder is not None:
        adapted._load(folder, where=str(config))
    return adapted


def _adapted(model: nn.Module, config: AdapterConfig, *, name: str | None, check: bool) -> ElpExpert | AdaptedModel:
    family, _ = find_family(model)
    if _is_expert(model):
        return ElpExpert(model, config, name=name, check=check)
    if family.format == HUGGING_FACE:
        return adapted_class(type(model))(model, config, name=name or _hub_name(model), check=check)
    if family.format == S3PRL:
        raise ElpError(
            f"adapt takes an S3PRL expert or a transformers model, but not a {type(model).__name__} with a "
            f"{family.name} model; pass the expert that s3prl.hub.{family.hub_local}(...) returns"
        )
    return ElpExpert(model, config, name=name, check=check)


def _is_expert(model: nn.Module) -> bool:
    """Return whether a module takes a list of waves like S3PRL's experts, without importing S3PRL."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(model).__mro__)
    return isinstance(model, HuggingFaceExpert) or EXPERT_BASE in names


def _hub_name(model: nn.Module) -> str | None:
    """Return the name that transformers downloaded the model by from Hugging Face's hub; None for a local model."""
    config = getattr(model, "config", None)
    place = getattr(config, "_name_or_path", None)
    from_hub = getattr(config, "_commit_hash", None) is not None and place and not Path(place).exists()
    return f"{HUB_PREFIX}{place}" if from_hub else None


def find_adapted(model: nn.Module) -> AdapterFace:
    """Find the adapted upstream inside a model; see :func:`upstream_elp.find_adapted`."""
    found: dict[str, AdapterFace] = {}
    for path, module in model.named_modules():
        if isinstance(module, AdapterFace) and not any(_inside(path, outer) for outer in found):
            found[path] = module
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ElpError(
            f"the {type(model).__name__} contains {len(found)} upstreams with adapters, at {', '.join(found)}; pass "
            f"the one that is meant, such as model.get_submodule({next(iter(found))!r})"
        )
    raise ElpError(
        f"the {type(model).__name__} does not contain an upstream with adapters; build it with upstream_elp.adapt, or "
        "with one of S3PRL's names that begin with elp_"
    )


def _inside(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")
