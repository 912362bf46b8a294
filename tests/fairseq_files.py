"""Small checkpoints in fairseq's layouts, made from our tiny backbones; fairseq itself is not needed."""

import argparse
import contextlib
import sys
import types

import torch
from omegaconf import OmegaConf

NAMES = {"wav2vec2": "wav2vec2", "hubert": "hubert", "data2vec": "data2vec_audio"}
PRETRAINING = ("quantizer.", "project_q.", "final_proj.", "label_embs_concat", "_ema")
LAYOUTS = ("args", "cfg", "omegaconf")
PREFIX = "w2v_encoder.w2v_model."


class Dictionary:
    """Like fairseq's dictionary, which a checkpoint contains for HuBERT's targets and for the letters of a CTC head."""

    def __init__(self, symbols):
        self.symbols, self.count = list(symbols), [1] * len(symbols)
        self.indices = {symbol: index for index, symbol in enumerate(symbols)}


class AverageMeter:
    """Stands for fairseq's meters in ``extra_state``."""

    def __init__(self):
        self.val, self.round = 1.0, None


@contextlib.contextmanager
def fairseq_importable():
    """Make the classes above fairseq's while a file is written."""
    homes = {"fairseq.data.dictionary": Dictionary, "fairseq.meters": AverageMeter}
    modules = {name: types.ModuleType(name) for name in ("fairseq", "fairseq.data", *homes)}
    before = {cls: cls.__module__ for cls in homes.values()}
    sys.modules.update(modules)
    for name, cls in homes.items():
        cls.__module__ = name
        setattr(modules[name], cls.__name__, cls)
    try:
        yield
    finally:
        for cls, module in before.items():
            cls.__module__ = module
        for name in modules:
            del sys.modules[name]


def write_fairseq(path, converted, family, *, layout="cfg", fine_tuned=False, old_format=False):
    """Write a checkpoint in S3PRL's layout as fairseq would have written it.

    Args:
        path: the file.
        converted: the checkpoint in S3PRL's layout, loaded.
        family: hubert, wav2vec2 or data2vec.
        layout: one of LAYOUTS.
        fine_tuned: as the encoder of a CTC model, without the tensors of pre-training.
        old_format: as torch wrote files before 1.6.
    """
    weights = dict(converted["model_weight"])
    name, symbols = NAMES[family], converted.get("dictionaries_symbols")
    if family == "data2vec":
        weights["_ema"] = {"layers.0.fc1.weight": torch.zeros(2)}
        weights["final_proj.weight"] = torch.ones(3, 3)  # not in S3PRL's model
    model, task = {**converted["model_cfg"], "_name": name}, {**converted["task_cfg"], "_name": "audio_pretraining"}
    config = _config(model, task, layout, arch=name)
    task_state = {"dictionaries": [Dictionary(each) for each in symbols]} if symbols else {}
    if fine_tuned:
        letters = ["<s>", "<pad>", "</s>", "<unk>", "|", "E"]
        weights = {f"{PREFIX}{key}": value for key, value in weights.items() if not key.startswith(PRETRAINING)}
        weights |= {"w2v_encoder.proj.weight": torch.randn(6, 32), "w2v_encoder.proj.bias": torch.zeros(6)}
        inner = {"model": config} if layout == "args" else config
        head = {"w2v_path": "pretrained.pt", "w2v_args": inner["model"] if layout == "args" else inner}
        head |= {"layerdrop": 0.1, "normalize": task["normalize"]}
        arch = "hubert_ctc" if family == "hubert" else "wav2vec_ctc"
        config = _config({**head, "_name": arch}, {"_name": "audio_finetuning", "labels": "ltr"}, layout, arch=arch)
        task_state = {"target_dictionary": Dictionary(letters)}
    state = {
        "args": config if layout == "args" else None,
        "cfg": None if layout == "args" else config,
        "model": weights,
        "criterion": None,
        "optimizer_history": [{"criterion_name": "Criterion", "num_updates": 4, "lr_scheduler_state": {"best": None}}],
        "task_state": task_state,
        "extra_state": {"train_iterator": {"epoch": 2}, "metrics": {"loss": AverageMeter()}, "best": _numpy_number()},
        "last_optimizer_state": {"state": {0: {"step": 4, "exp_avg": torch.zeros(2)}}},
    }
    if layout == "args":
        del state["cfg"]
    with fairseq_importable():
        torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    return path


def _config(model, task, layout, *, arch):
    if layout == "args":
        flat = {**task, **model, "arch": arch, "task": task["_name"], "no_progress_bar": True}
        del flat["_name"]
        return argparse.Namespace(**flat)
    whole = {"common": {"fp16": True, "seed": 1}, "model": model, "task": task, "criterion": {"_name": "wav2vec"}}
    if layout == "cfg":
        return whole
    if "label_rate" in model:
        whole = {**whole, "model": {**model, "label_rate": "${task.label_rate}"}}
    return OmegaConf.create(whole)


def _numpy_number():
    import numpy as np

    return np.float64(3.5)
