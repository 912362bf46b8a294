"""Convert fairseq's checkpoints to the layout that S3PRL's loaders expect; fairseq itself is not needed.

There are three layouts: ``cfg`` with the blocks ``model`` and ``task`` (a mapping or OmegaConf's objects); before 2021,
``args`` with everything in one ``Namespace``; and fine-tuned models, with the configuration of the pre-training in
``w2v_args`` and the backbone among other modules. Objects arrive as :class:`~upstream_elp.base.safe_load.Inert`.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.base.errors import ElpError, counted, one_line, shown
from upstream_elp.base.safe_load import Inert

NAMES = {"wav2vec2": "wav2vec2", "hubert": "hubert", "data2vec_audio": "data2vec"}
"""Our families by fairseq's name of the model."""
PRETRAINING = ("quantizer.", "project_q.", "final_proj.", "target_glu.", "label_embs_concat", "_ema")
"""Prefixes of the tensors that only pre-training uses."""
DEEPEST = 4
"""How many times a model may have been fine-tuned in a row."""


def is_fairseq(state: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has fairseq's layout; WavLM and UniSpeech-SAT have a flat ``cfg``."""
    return isinstance(state.get("model"), Mapping) and _blocks(state) is not None


def described(state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the family and the configuration of the backbone in one of fairseq's checkpoints.

    Returns:
        The family, and a mapping with S3PRL's keys ``task_cfg`` and ``model_cfg``.

    Raises:
        ElpError: an unsupported model, or a fine-tuned model without the configuration of its pre-training.
    """
    model, task = _blocks(state)
    for _ in range(DEEPEST):
        if not model.get("w2v_args"):
            break
        inner = model["w2v_args"]
        blocks = _blocks({"cfg": inner}) or _blocks({"args": inner})
        if blocks is None:
            raise ElpError(f"w2v_args must contain the configuration of the pre-training, but is {shown(inner)}")
        model, task = blocks
    name = model.get("_name") or model.get("arch")
    if name in NAMES:
        return NAMES[name], {"task_cfg": task, "model_cfg": model}
    if model.get("w2v_path"):
        raise ElpError(
            f"it is fairseq's model {shown(name)}, fine-tuned from {shown(model['w2v_path'])}, without the "
            "configuration of that model (w2v_args); pass that file instead"
        )
    raise ElpError(f"fairseq's model {shown(name)} is not supported; the supported models are: {', '.join(NAMES)}")


def completed(family: str, parts: dict[str, Any], weights: dict[str, Any], task_state: Any) -> dict[str, Any]:
    """Return the complete checkpoint in S3PRL's layout.

    A fine-tuned model lacks the tensors of its pre-training, which S3PRL's strict loading requires; they become zeros.

    Args:
        family: the family as returned by :func:`described`.
        parts: the mapping as returned by :func:`described`.
        weights: the backbone's tensors under their own names.
        task_state: the checkpoint's entry of that name, with HuBERT's dictionaries.

    Raises:
        ElpError: S3PRL's model refuses the configuration or has other tensors.
    """
    if family == "hubert":
        parts = {**parts, "dictionaries_symbols": _symbols(weights, task_state)}
    expected = _expected(family, parts)
    kept = {name: tensor for name, tensor in weights.items() if name in expected}
    unknown = [name for name in weights if name not in expected and not name.startswith(PRETRAINING)]
    missing = [name for name in expected if name not in weights and not name.startswith(PRETRAINING)]
    other = [name for name, tensor in kept.items() if tensor.shape != expected[name].shape]
    for names, problem in ((missing, "lacks"), (unknown, "contains the unknown"), (other, "has another shape of")):
        if names:
            raise ElpError(f"its {family} model {problem} {counted(len(names), 'tensor')}, such as {names[0]}")
    zeros = {name: torch.zeros(tensor.shape) for name, tensor in expected.items() if name not in kept}
    ema = {"_ema": {}} if family == "data2vec" else {}  # the loader deletes it, but expects it to be there
    return {**parts, "model_weight": {**kept, **zeros, **ema}}


def only_for_pretraining(names: list[str]) -> list[str]:
    """Return the modules of pre-training that occur in names of tensors."""
    return sorted({name.split(".")[0] for name in names if name.startswith(PRETRAINING)})


def _blocks(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the blocks ``model`` and ``task`` of a configuration; both are the whole mapping if it is flat."""
    try:
        whole = plain(state.get("cfg"))
        if isinstance(whole, dict) and isinstance(whole.get("model"), dict):
            resolved = _resolved(whole, whole)
            task = resolved.get("task")
            return resolved["model"], task if isinstance(task, dict) else {}
        flat = plain(state.get("args"))
    except RecursionError as error:
        raise ElpError("its configuration contains itself") from error
    return (flat, flat) if isinstance(flat, dict) and flat else None


def plain(value: Any) -> Any:
    """Return nested mappings, lists and values without the objects around them: OmegaConf, Namespace, enumerations."""
    if isinstance(value, Inert):
        state = value.state
        if state is None:  # a member of an enumeration is built from its value
            return plain(value.args[0]) if len(value.args) == 1 else None
        if not isinstance(state, Mapping):
            return None
        inner = next((state[key] for key in ("_content", "_val") if key in state), state)
        return plain(inner)
    if isinstance(value, Namespace):  # may be loaded, since S3PRL's checkpoints contain it too
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else None


def _resolved(value: Any, whole: Mapping[str, Any], depth: int = 0) -> Any:
    """Follow OmegaConf's references, such as ``${task.label_rate}``; ``w2v_args`` refers to itself."""
    if isinstance(value, dict):
        return {key: item if key == "w2v_args" else _resolved(item, whole, depth) for key, item in value.items()}
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", value)) and depth < DEEPEST:
        target: Any = whole
        for key in found[1].split("."):
            target = target.get(key) if isinstance(target, Mapping) else None
        return _resolved(target, whole, depth + 1)
    return value


def _symbols(weights: Mapping[str, Any], task_state: Any) -> list[list[str] | None]:
    """Return HuBERT's dictionaries, of which only the number of entries matters; None for a model without targets."""
    embeddings = weights.get("label_embs_concat")
    if embeddings is None:
        return [None]
    state = plain(task_state)
    found = state.get("dictionaries") if isinstance(state, dict) else None
    symbols = [each.get("symbols") for each in found or [] if isinstance(each, dict)]
    if symbols and all(isinstance(each, list) for each in symbols) and sum(map(len, symbols)) == len(embeddings):
        return symbols
    return [[str(index) for index in range(len(embeddings))]]


def _expected(family: str, parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of S3PRL's model on the meta device, without memory."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # the adapters are initialised later
            return _model(family, parts).state_dict()
    except (AssertionError, TypeError, ValueError, KeyError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        raise ElpError(f"S3PRL cannot build a {family} model from its configuration: {one_line(error)}") from error


def _model(family: str, parts: Mapping[str, Any]) -> nn.Module:
    """Build the model as S3PRL's ``load_converted_model`` does."""
    from s3prl.upstream.data2vec.data2vec_model import Data2VecAudioConfig, Data2VecAudioModel
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig
    from s3prl.upstream.utils import merge_with_parent
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    if family == "hubert":
        task = merge_with_parent(HubertPretrainingConfig, parts["task_cfg"])
        return HubertModel(merge_with_parent(HubertConfig, parts["model_cfg"]), task, parts["dictionaries_symbols"])
    if family == "wav2vec2":
        return Wav2Vec2Model(merge_with_parent(Wav2Vec2Config, parts["model_cfg"]))
    model = Data2VecAudioModel(merge_with_parent(Data2VecAudioConfig, parts["model_cfg"]))
    model.remove_pretraining_modules()
    return model
