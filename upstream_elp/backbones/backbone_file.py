"""Recognise the family of a backbone's checkpoint, and convert a file to the layout that S3PRL's loader expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upstream_elp.backbones import fairseq
from upstream_elp.backbones.families import FAMILIES, families, other_families, recognised
from upstream_elp.backbones.family import BackboneFile, Family, weights_key
from upstream_elp.backbones.huggingface_files import CONFIG_FILE, hugging_face_family, read_json
from upstream_elp.backbones.s3prl_families import front_layers
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.safe_load import load_inert

ANCHOR = "feature_extractor.conv_layers.0.0.weight"
"""A tensor that every backbone has; any prefix of its name is the prefix of all tensors."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts that torch.compile and other wrappers insert into names, at any depth."""


def read_folder(place: str, *, refresh: bool = False) -> BackboneFile:
    """Recognise a backbone in Hugging Face's format from its ``config.json``.

    Args:
        place: a folder, or a name on Hugging Face's hub.
        refresh: whether to download cached files again.

    Raises:
        ElpError: the configuration cannot be read, or the family is unknown.
    """
    config = read_json(place, CONFIG_FILE, refresh)
    known = families()
    kind = recognised(config, among=known) or known[hugging_face_family(place)]  # which reports what is wrong
    return BackboneFile(place, kind, config, refresh=refresh)


def read_backbone(path: Path) -> BackboneFile:
    """Recognise a backbone's checkpoint by its keys and convert it to S3PRL's layout, without running code from it.

    Raises:
        ElpError: an unreadable file, keys of an unsupported family, or a configuration that would run code.
    """
    # memory-mapped, since usually only the keys are read here: S3PRL loads the file itself
    state, stand_ins = load_inert(
        path, mmap=True, hint="pass a backbone in S3PRL's or fairseq's format, or a trained adapter folder"
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
    key = weights_key(state)
    weights, remarks = _backbone_in(state[key])
    if stand_ins:
        remarks = [*remarks, "objects of other packages in it are ignored"]
        state = {name: fairseq.plain(value) if name != key else value for name, value in state.items()}
    return BackboneFile(str(path), family, {**state, key: weights}, tuple(remarks))


def _from_fairseq(path: Path, state: Mapping[str, Any]) -> BackboneFile:
    family, parts = fairseq.described(state)
    front_layers(parts)
    weights, remarks = _backbone_in(state["model"])
    whole = fairseq.completed(family, parts, weights, state.get("task_state"))
    gone = fairseq.only_for_pretraining([name for name in weights if name not in whole["model_weight"]])
    zeros = fairseq.only_for_pretraining([name for name in whole["model_weight"] if name not in weights])
    remarks = [f"a {family} checkpoint in fairseq's format, converted in memory", *remarks]
    remarks += [f"not loaded, since only pre-training uses it: {', '.join(gone)}"] if gone else []
    remarks += [f"not in the file, since only pre-training uses it: {', '.join(zeros)}"] if zeros else []
    return BackboneFile(str(path), FAMILIES[family], whole, tuple(remarks))


def _unknown(path: Path, state: Mapping[str, Any]) -> ElpError:
    """Return an error that says what is wrong with a checkpoint that no family recognises."""
    keys = set(state)
    if any(str(key).endswith("feature_projection.projection.weight") for key in keys):
        return ElpError(
            f"{path} contains the weights of a Hugging Face model without its configuration; pass the folder that "
            "contains both the weights and config.json"
        )
    if any(str(key).endswith(ANCHOR) for key in keys):
        return ElpError(
            f"{path} contains the tensors of a model without its configuration; pass the checkpoint that its training "
            "wrote"
        )
    return ElpError(
        f"{path} is not a backbone of the families {', '.join(families())} in S3PRL's or fairseq's format: "
        + (f"its keys are {', '.join(sorted(map(str, keys))[:6])}" if keys else "it does not contain any keys")
    )


def _backbone_in(weights: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors of the backbone under its own names, and remarks on what had to be changed."""
    named = {_unwrapped(name): tensor for name, tensor in weights.items()}
    prefixes = [name.removesuffix(ANCHOR) for name in named if name == ANCHOR or name.endswith(f".{ANCHOR}")]
    if len(prefixes) > 1:
        raise ElpError(
            f"it contains {len(prefixes)} backbones, with the prefixes {', '.join(map(repr, sorted(prefixes)))}; "
            "write the one that you want to a separate file"
        )
    prefix = prefixes[0] if prefixes else ""
    inside = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    outside = [name for name in named if not name.startswith(prefix)]
    remarks = [] if list(named) == list(weights) else ["the wrappers of its modules are removed from their names"]
    remarks += [f"its tensors are taken from {prefix.rstrip('.')}"] if prefix else []
    if outside:
        remarks.append(f"its head ({counted(len(outside), 'tensor')}, such as {outside[0]}) is not loaded")
    return inside, remarks


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name
