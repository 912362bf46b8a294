"""Recognise the family of a backbone's checkpoint, and bring a file into the layout that S3PRL's loader takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upstream_elp.backbones import fairseq
from upstream_elp.backbones.families import FAMILIES, families, other_families, recognised
from upstream_elp.backbones.family import WEIGHT_KEYS, BackboneFile, Family
from upstream_elp.backbones.huggingface_files import CONFIG_FILE, hugging_face_family, read_json
from upstream_elp.backbones.s3prl_families import front_layers
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.safe_load import load_inert

ANCHOR = "feature_extractor.conv_layers.0.0.weight"
"""A tensor that every backbone has; what stands before it is a prefix that all have."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and others put into names, at any depth."""


def read_folder(place: str, *, refresh: bool = False) -> BackboneFile:
    """Recognise a backbone in Hugging Face's format from its ``config.json``.

    Args:
        place: a folder, or a name on Hugging Face's hub.
        refresh: download again what is cached.

    Raises:
        ElpError: nothing readable there, or no known family.
    """
    config = read_json(place, CONFIG_FILE, refresh)
    known = families()
    kind = recognised(config, among=known) or known[hugging_face_family(place)]  # which says what is wrong
    return BackboneFile(place, kind, config, refresh=refresh)


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
    if (other := recognised(state, among=other_families())) is not None:
        return BackboneFile(str(path), other, dict(state))
    try:
        if fairseq.is_fairseq(state):
            return _from_fairseq(path, state)
        family = recognised(state, among=FAMILIES)
        if family is None:
            raise _unknown(path, state)
        front_layers(state)
        return _in_s3prls_layout(path, family, dict(state), stand_ins)
    except ElpError as error:
        if str(path) in str(error):
            raise
        raise ElpError(f"{path} cannot be used: {error}") from error


def _in_s3prls_layout(path: Path, family: Family, state: dict[str, Any], stand_ins: bool) -> BackboneFile:
    key = next(key for key in WEIGHT_KEYS if key in state)
    weights, remarks = _backbone_in(state[key])
    if stand_ins:
        remarks = [*remarks, "objects of other packages in it are passed over"]
        state = {name: fairseq.plain(value) if name != key else value for name, value in state.items()}
    return BackboneFile(str(path), family, {**state, key: weights}, tuple(remarks))


def _from_fairseq(path: Path, state: Mapping[str, Any]) -> BackboneFile:
    family, parts = fairseq.described(state)
    front_layers(parts)
    weights, remarks = _backbone_in(state["model"])
    whole = fairseq.completed(family, parts, weights, state.get("task_state"))
    gone = fairseq.only_for_pretraining([name for name in weights if name not in whole["model_weight"]])
    zeros = fairseq.only_for_pretraining([name for name in whole["model_weight"] if name not in weights])
    remarks = [f"a {family} checkpoint of fairseq's, converted in memory", *remarks]
    remarks += [f"not loaded, as only pre-training uses it: {', '.join(gone)}"] if gone else []
    remarks += [f"not in the file, as only pre-training uses it: {', '.join(zeros)}"] if zeros else []
    return BackboneFile(str(path), FAMILIES[family], whole, tuple(remarks))


def _unknown(path: Path, state: Mapping[str, Any]) -> ElpError:
    """What is wrong with a checkpoint that no family recognises."""
    keys = set(state)
    if any(str(key).endswith("feature_projection.projection.weight") for key in keys):
        return ElpError(
            f"{path} holds the weights of a Hugging Face model without its configuration; give the folder that holds "
            "them together with config.json"
        )
    if any(str(key).endswith(ANCHOR) for key in keys):
        return ElpError(
            f"{path} holds the tensors of a model without its configuration; give the checkpoint that its training "
            "wrote"
        )
    return ElpError(
        f"{path} holds the keys {', '.join(sorted(map(str, keys))[:6]) or 'of no checkpoint'}, which is no backbone of "
        f"the families {', '.join(families())} in S3PRL's or fairseq's format"
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
