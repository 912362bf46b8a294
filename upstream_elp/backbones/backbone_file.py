"""A backbone's checkpoint file: its family, its waveform CNN, and the dict that S3PRL's loader takes."""

from __future__ import annotations

import importlib
import io
import logging
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upstream_elp.audio.front import STANDARD, FrontEnd, fairseq_layers
from upstream_elp.backbones import fairseq
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.safe_load import load_inert

logger = logging.getLogger(__name__)
ANCHOR = "feature_extractor.conv_layers.0.0.weight"
"""A tensor that every backbone has; what stands before it is a prefix that all have."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and others put into names, at any depth."""
WEIGHT_KEYS = ("model", "model_weight")
"""Where the tensors are in S3PRL's checkpoint formats: WavLM's, and that of HuBERT, wav2vec 2.0 and data2vec."""


@dataclass(frozen=True)
class BackboneFile:
    """What :func:`read_backbone` found."""

    path: Path
    family: str
    state: dict[str, Any]
    """In S3PRL's layout, whatever the file's is."""
    remarks: tuple[str, ...] = ()
    """What had to be changed; where nothing had, S3PRL loads the file itself."""

    @property
    def weights_key(self) -> str:
        """Where the tensors are in :attr:`state`."""
        return next(key for key in WEIGHT_KEYS if key in self.state)

    @property
    def front(self) -> FrontEnd:
        """The waveform CNN by the configuration."""
        layers = _layers(self.state)
        return STANDARD if layers is None else FrontEnd(tuple((kernel, stride) for _, kernel, stride in layers))

    def expert(self) -> nn.Module:
        """S3PRL's stock expert.

        Raises:
            ElpError: S3PRL cannot load it.
        """
        from s3prl import hub

        try:
            if not self.remarks:
                return getattr(hub, FAMILIES[self.family].hub_local)(ckpt=str(self.path))
            logger.warning("%s: %s", self.path, "; ".join(self.remarks))
            buffer = io.BytesIO()
            torch.save(self.state, buffer)
            buffer.seek(0)
            return importlib.import_module(f"s3prl.upstream.{self.family}.expert").UpstreamExpert(buffer)
        except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
            raise ElpError(
                f"{self.path} looks like a {self.family} checkpoint, but S3PRL cannot load it: {_reason(error)}"
            ) from error


def read_backbone(path: Path) -> BackboneFile:
    """Recognise a backbone's checkpoint from its keys and bring it into S3PRL's layout, without running code from it.

    Raises:
        ElpError: unreadable file, keys of no supported family, or a configuration that would run code.
    """
    # mapped, since mostly only the keys are read here: S3PRL loads the file itself
    state, stand_ins = load_inert(
        path, mmap=True, hint="give a backbone in S3PRL's or fairseq's format, or a trained adapter folder"
    )
    state = state if isinstance(state, Mapping) else {}
    try:
        if fairseq.is_fairseq(state):
            return _from_fairseq(path, state)
        family = _family(path, state)
        _layers(state)
        return _in_s3prls_layout(path, family, dict(state), stand_ins)
    except ElpError as error:
        if str(path) in str(error):
            raise
        raise ElpError(f"{path} cannot be used: {error}") from error


def _in_s3prls_layout(path: Path, family: str, state: dict[str, Any], stand_ins: bool) -> BackboneFile:
    key = next(key for key in WEIGHT_KEYS if key in state)
    weights, remarks = _backbone_in(state[key])
    if stand_ins:
        remarks = [*remarks, "objects of other packages in it are passed over"]
        state = {name: fairseq.plain(value) if name != key else value for name, value in state.items()}
    return BackboneFile(path, family, {**state, key: weights}, tuple(remarks))


def _from_fairseq(path: Path, state: Mapping[str, Any]) -> BackboneFile:
    family, parts = fairseq.described(state)
    _layers(parts)
    weights, remarks = _backbone_in(state["model"])
    whole = fairseq.completed(family, parts, weights, state.get("task_state"))
    gone = fairseq.only_for_pretraining([name for name in weights if name not in whole["model_weight"]])
    zeros = fairseq.only_for_pretraining([name for name in whole["model_weight"] if name not in weights])
    remarks = [f"a {family} checkpoint of fairseq's, converted in memory", *remarks]
    remarks += [f"not loaded, as only pre-training uses it: {', '.join(gone)}"] if gone else []
    remarks += [f"not in the file, as only pre-training uses it: {', '.join(zeros)}"] if zeros else []
    return BackboneFile(path, family, whole, tuple(remarks))


def _family(path: Path, state: Mapping[str, Any]) -> str:
    """The family of a checkpoint in S3PRL's layout."""
    keys = set(state)
    if {"task_cfg", "model_cfg", "model_weight"} <= keys and isinstance(state["model_weight"], Mapping):
        if "dictionaries_symbols" in keys:
            return "hubert"
        return "data2vec" if any(name.endswith("_ema") for name in state["model_weight"]) else "wav2vec2"
    if {"cfg", "model"} <= keys and isinstance(state["cfg"], Mapping) and isinstance(state["model"], Mapping):
        return "wavlm" if state["cfg"].get("relative_position_embedding") else "unispeech_sat"
    if any(str(key).endswith("feature_projection.projection.weight") for key in keys):
        raise ElpError(
            f"{path} holds the weights of a Hugging Face model without its configuration; give the folder that holds "
            "them together with config.json"
        )
    if any(str(key).endswith(ANCHOR) for key in keys):
        raise ElpError(
            f"{path} holds the tensors of a model without its configuration; give the checkpoint that its training "
            "wrote"
        )
    raise ElpError(
        f"{path} holds the keys {', '.join(sorted(map(str, keys))[:6]) or 'of no checkpoint'}, which is no backbone of "
        f"the families {', '.join(FAMILIES)} in S3PRL's or fairseq's format"
    )


def _backbone_in(weights: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors of the backbone under its own names, and what had to be changed."""
    named = {_unwrapped(name): tensor for name, tensor in weights.items()}
    prefixes = [name.removesuffix(ANCHOR) for name in named if name == ANCHOR or name.endswith(f".{ANCHOR}")]
    if len(prefixes) > 1:
        raise ElpError(
            f"it holds {len(prefixes)} backbones, whose names begin with {', '.join(map(repr, sorted(prefixes)))}; "
            "write the one that you mean into a file of its own"
        )
    prefix = prefixes[0] if prefixes else ""
    inside = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    outside = [name for name in named if not name.startswith(prefix)]
    remarks = [] if list(named) == list(weights) else ["what wraps its modules is taken out of their names"]
    remarks += [f"its tensors are taken from {prefix.rstrip('.')}"] if prefix else []
    if outside:
        remarks.append(f"the head behind it ({counted(len(outside), 'tensor')}, such as {outside[0]}) is not loaded")
    return inside, remarks


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _layers(state: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...] | None:
    """The convolutions that the configuration names, read before S3PRL evaluates them as Python."""
    config = next((state[key] for key in ("model_cfg", "cfg") if isinstance(state.get(key), Mapping)), {})
    text = config.get("conv_feature_layers")
    return None if text is None else fairseq_layers(text)


def _reason(error: Exception) -> str:
    """Why S3PRL cannot load a checkpoint; of tensors that do not fit, how many and the first."""
    text = " ".join(str(error).split())
    if not text:  # an assertion
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {last.line}"
    missing, unknown = (
        re.findall(r'"([^"]+)"', found[1])
        if (found := re.search(rf"{kind} key\(s\) in state_dict: ([^:]*?)\. ", f"{text} "))
        else []
        for kind in ("Missing", "Unexpected")
    )
    shapes = re.findall(r"size mismatch for ([^:]+): ", text)
    told = [
        f"{what} {counted(len(names), 'tensor')}, such as {names[0]}"
        for what, names in (
            ("it lacks", missing),
            ("it holds the unknown", unknown),
            ("of another shape it has", shapes),
        )
        if names
    ]
    return ", ".join(told) or text
