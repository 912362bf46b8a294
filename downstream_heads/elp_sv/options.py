"""The options in this task's config blocks, and S3PRL's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downstream_heads.common.batching import BATCH_DEFAULTS, check_batch_options
from downstream_heads.common.size import SIZE_DEFAULTS, check_size
from downstream_heads.elp_sv.data import EFFECTS
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import HARMLESS
from upstream_elp.base.values import (
    boolean,
    check_paths,
    choose,
    is_whole,
    mapping,
    number,
    positive_int,
    read_options,
    wrong_value,
)

DATA = "downstream_expert.datarc"
MODEL = "downstream_expert.modelrc"
PROTOCOLS = ("dev", "superb")
TOLERATED = HARMLESS | {"empty-speaker"}
"""Kinds of problems that do not matter here; an empty speaker only matters to S3PRL's own task."""
TOO_SHORT = ("error", "untrimmed")
CROPS = ("samples", "features")
PLACES = ("random", "start")
COHORTS = ("drawn", "last_epoch")
OBJECTIVES = ("softmax", "aam_softmax")
DATA_DEFAULTS: dict[str, Any] = {
    "root": None,
    "file_path": None,
    "trials": None,
    "protocol": "dev",
    "held_out": 0.05,
    "split_seed": 0,
    "dev_utterances": 20,
    "dev_trials": 20000,
    "min_samples": 32000,
    "max_timestep": 128000,
    "crop_from": "samples",
    "crop_at": "random",
    "effects": "superb",
    "too_short": "error",
    "snorm": 0,
    "snorm_cohort": "drawn",
    "snorm_top": None,
    "p_target": 0.01,
    "n_jobs": None,
    "num_workers": 4,
    "train_batch_size": 10,
    "eval_batch_size": 1,
    **BATCH_DEFAULTS,
    **SIZE_DEFAULTS,
}
HEAD_DEFAULTS: dict[str, dict[str, Any]] = {
    "superb": {"input_dim": 512, "agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False, "s": 30.0, "m": 0.4},
    "linear": {"projector_dim": 768},
    "ecapa": {"channels": 512, "scale": 8, "attention_dim": 128, "agg_dim": 1536, "embedding_dim": 192},
    "mhfa": {"heads": 32, "compression_dim": 128, "embedding_dim": 256},
}
OWN_OBJECTIVES = {"superb": "am_softmax", "linear": "softmax", "ecapa": "aam_softmax", "mhfa": "aam_softmax"}
"""The loss of each head if `modelrc.objective` is null."""
MARGIN_DEFAULTS: dict[str, Any] = {"s": 30.0, "m": 0.2, "rise_from": 0, "rise_to": 0}
MODEL_DEFAULTS: dict[str, Any] = {"head": "superb", "objective": None, "aam_softmax": None, **HEAD_DEFAULTS}
STOCK_CHOICES = {
    "module": "XVector",
    "agg_module": "SP",
    "utter_module": "UtteranceExtractor",
    "ObjectiveLoss": "AMSoftmaxLoss",
}
"""Keys of S3PRL's modelrc that select a part, and the only value that is supported (SUPERB's)."""


def data_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked data block; it may use S3PRL's `vad_config.min_sec` and `test_meta_data`.

    Raises:
        ElpError: an unknown key or a value out of range.
    """
    block = dict(block)
    vad = mapping(block.pop("vad_config", None), key=f"{DATA}.vad_config")
    for stock, own, value in (
        ("vad_config.min_sec", "min_samples", vad.get("min_sec")),
        ("test_meta_data", "trials", block.pop("test_meta_data", None)),
    ):
        if value is not None and block.get(own) is not None:
            raise ElpError(f"config keys {DATA}.{own} and {DATA}.{stock} mean the same; set only one of them")
        if value is not None:
            block[own] = value
    # S3PRL's lists of training and development speakers, which its own code does not use
    options = read_options(block, DATA_DEFAULTS, where=DATA, ignored=("train_meta_data", "dev_meta_data"))
    choose(options["protocol"], PROTOCOLS, key=f"{DATA}.protocol")
    choose(options["too_short"], TOO_SHORT, key=f"{DATA}.too_short")
    check_paths(options, ("root", "file_path", "trials"), where=DATA)
    number(options["held_out"], key=f"{DATA}.held_out", least=0)
    for key, least in (
        ("split_seed", 0),
        ("dev_utterances", 2),
        ("dev_trials", 2),
        ("min_samples", 0),
        ("snorm", 0),
        ("num_workers", 0),
        ("train_batch_size", 1),
        ("eval_batch_size", 1),
    ):
        positive_int(options[key], key=f"{DATA}.{key}", least=least)
    check_batch_options(options, where=DATA)
    check_size(options, where=DATA)
    for key in ("max_timestep", "n_jobs"):
        if options[key] is not None:
            positive_int(options[key], key=f"{DATA}.{key}")
    choose(options["crop_from"], CROPS, key=f"{DATA}.crop_from")
    choose(options["crop_at"], PLACES, key=f"{DATA}.crop_at")
    choose(options["effects"], EFFECTS, key=f"{DATA}.effects")
    _check_snorm(options)
    number(options["p_target"], key=f"{DATA}.p_target", above=0, below=1)
    return options


def _check_snorm(options: Mapping[str, Any]) -> None:
    """Check the keys of score normalisation."""
    size, top = options["snorm"], options["snorm_top"]
    if size == 1:
        raise wrong_value(1, "0 (off) or at least 2, as a cohort needs 2 utterances", key=f"{DATA}.snorm")
    choose(options["snorm_cohort"], COHORTS, key=f"{DATA}.snorm_cohort")
    if top is not None and not (is_whole(top, least=2) and top <= size):
        must = f"null (s-norm) or a whole number from 2 to {DATA}.snorm, which is {size}"
        raise wrong_value(top, must, key=f"{DATA}.snorm_top")
    if options["snorm_cohort"] != COHORTS[0] and not size:
        must = f"{COHORTS[0]} without s-norm; set {DATA}.snorm to the size of the cohort"
        raise wrong_value(options["snorm_cohort"], must, key=f"{DATA}.snorm_cohort")


def head_options(block: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the head's name and its options; S3PRL's own modelrc is accepted too.

    Raises:
        ElpError: an unknown head or key, or a part of S3PRL that SUPERB does not use.
    """
    options = read_options(_from_stock(block), MODEL_DEFAULTS, where=MODEL)
    head = choose(options["head"], HEAD_DEFAULTS, key=f"{MODEL}.head")
    chosen = read_options(options[head], HEAD_DEFAULTS[head], where=f"{MODEL}.{head}")
    for key, value in chosen.items():
        if key.endswith("_dim") or key in ("channels", "scale", "heads"):
            positive_int(value, key=f"{MODEL}.{head}.{key}", least=2 if key == "scale" else 1)
    if head == "ecapa" and chosen["channels"] % chosen["scale"]:
        must = f"a multiple of {MODEL}.ecapa.scale, which is {chosen['scale']}"
        raise wrong_value(chosen["channels"], must, key=f"{MODEL}.ecapa.channels")
    for key, limits in (("dropout_p", {"least": 0, "below": 1}), ("s", {"least": 0}), ("m", {})):
        if key in chosen:
            number(chosen[key], key=f"{MODEL}.{head}.{key}", **limits)
    if "batch_norm" in chosen:
        boolean(chosen["batch_norm"], key=f"{MODEL}.{head}.batch_norm")
    return head, chosen


def objective_options(block: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the loss, `softmax`, `am_softmax` or `aam_softmax`, and its options.

    Raises:
        ElpError: an unknown loss or key, or a value out of range.
    """
    head, chosen = head_options(block)
    options = read_options(_from_stock(block), MODEL_DEFAULTS, where=MODEL)
    where = f"{MODEL}.aam_softmax"
    margin = read_options(options["aam_softmax"], MARGIN_DEFAULTS, where=where)
    number(margin["s"], key=f"{where}.s", above=0)
    number(margin["m"], key=f"{where}.m", least=0, most=1.5)
    positive_int(margin["rise_from"], key=f"{where}.rise_from", least=0)
    positive_int(margin["rise_to"], key=f"{where}.rise_to", least=margin["rise_from"])
    name = options["objective"]
    name = OWN_OBJECTIVES[head] if name is None else choose(name, OBJECTIVES, key=f"{MODEL}.objective")
    if name == "am_softmax":
        return name, {key: chosen[key] for key in ("s", "m")}
    return name, margin if name == "aam_softmax" else {}


def _from_stock(block: Mapping[str, Any]) -> dict[str, Any]:
    """Convert S3PRL's nested modelrc (`configs/amsoftmax.yaml`) to ours; return any other block unchanged."""
    block = dict(block)
    stock = {
        key: block.pop(key) for key in (*STOCK_CHOICES, "input_dim", "module_config", "LossConfig") if key in block
    }
    if not stock:
        return block
    for key, only in STOCK_CHOICES.items():
        if key in stock:
            choose(stock[key], (only,), key=f"{MODEL}.{key}")
    own = mapping(block.get("superb"), key=f"{MODEL}.superb")
    if "input_dim" in stock:
        own["input_dim"] = stock["input_dim"]
    for key, part in (("module_config", "module"), ("LossConfig", "ObjectiveLoss")):
        name = STOCK_CHOICES[part]
        parts = mapping(stock.get(key), key=f"{MODEL}.{key}")
        own.update(mapping(parts.get(name), key=f"{MODEL}.{key}.{name}"))
    return {**block, "superb": own}
