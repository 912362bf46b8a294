"""The options in this task's config blocks, and S3PRL's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downstream_heads.common.batching import BATCH_DEFAULTS, check_batch_options
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import HARMLESS
from upstream_elp.base.values import (
    boolean,
    check_paths,
    choose,
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
    "too_short": "error",
    "snorm": 0,
    "p_target": 0.01,
    "n_jobs": None,
    "num_workers": 4,
    "train_batch_size": 10,
    "eval_batch_size": 1,
    **BATCH_DEFAULTS,
}
HEAD_DEFAULTS: dict[str, dict[str, Any]] = {
    "superb": {"input_dim": 512, "agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False, "s": 30.0, "m": 0.4},
    "linear": {"projector_dim": 768},
}
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
    for key in ("max_timestep", "n_jobs"):
        if options[key] is not None:
            positive_int(options[key], key=f"{DATA}.{key}")
    choose(options["crop_from"], CROPS, key=f"{DATA}.crop_from")
    if options["snorm"] == 1:
        raise wrong_value(1, "0 (off) or at least 2, as a cohort needs 2 utterances", key=f"{DATA}.snorm")
    number(options["p_target"], key=f"{DATA}.p_target", above=0, below=1)
    return options


def head_options(block: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the head's name and its options; S3PRL's own modelrc is accepted too.

    Raises:
        ElpError: an unknown head or key, or a part of S3PRL that SUPERB does not use.
    """
    block = _from_stock(block)
    options = read_options(block, {"head": "superb", **HEAD_DEFAULTS}, where=MODEL)
    head = choose(options["head"], HEAD_DEFAULTS, key=f"{MODEL}.head")
    chosen = read_options(options[head], HEAD_DEFAULTS[head], where=f"{MODEL}.{head}")
    for key in ("input_dim", "agg_dim", "projector_dim"):
        if key in chosen:
            positive_int(chosen[key], key=f"{MODEL}.{head}.{key}")
    for key, limits in (("dropout_p", {"least": 0, "below": 1}), ("s", {"least": 0}), ("m", {})):
        if key in chosen:
            number(chosen[key], key=f"{MODEL}.{head}.{key}", **limits)
    if "batch_norm" in chosen:
        boolean(chosen["batch_norm"], key=f"{MODEL}.{head}.batch_norm")
    return head, chosen


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
