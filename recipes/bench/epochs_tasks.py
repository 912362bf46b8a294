"""Configurations of the same four tasks for S3PRL's own code and for ours, as epochs.py compares them.

Batches, heads, optimizers and crops are SUPERB's in both, except for what a small corpus requires: the batch size and
the width of ASR's head are options, gradients are not accumulated, audio is read in the training process, and SV
accepts short utterances.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MIN_SAMPLES, CROP = 24000, 32000
"""For SV: mini-SUPERB's utterances are short."""
NEVER = 10**9


class Task(NamedTuple):
    """One task in both codes."""

    ours: str
    stock: str
    corpus: str
    """Folder of the corpus within ``--data``."""
    batch_key: str
    batch_factor: int
    """S3PRL halves every full batch of ASR, so a batch of 16 is asked for as 32."""


TASKS = {
    "asr": Task("elp_asr", "asr", "LibriSpeech", "batch_size", 2),
    "sv": Task("elp_sv", "sv_voxceleb1", "VoxCeleb1", "train_batch_size", 1),
    "er": Task("elp_er", "emotion", "IEMOCAP", "train_batch_size", 1),
    "ic": Task("elp_ic", "fluent_commands", "fluent_speech_commands_dataset", "train_batch_size", 1),
}


def our_override(name: str, batch: int, asr_width: int) -> str:
    """Return the flag ``-o`` for a run of our task."""
    task = TASKS[name]
    datarc: dict[str, Any] = {task.batch_key: batch * task.batch_factor, "num_workers": 0}
    runner = {"eval_step": NEVER, "save_step": NEVER, "log_step": 100, "gradient_accumulate_steps": 1}
    if name == "sv":
        datarc |= {"protocol": "superb", "min_samples": MIN_SAMPLES, "max_timestep": CROP}
        runner["eval_dataloaders"] = "[test]"
    model = _asr_model(asr_width) if name == "asr" else {}
    words = [f"config.runner.{key}={value}" for key, value in runner.items()]
    words += [f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items()]
    return ",,".join([*words, *(f"config.downstream_expert.modelrc.{key}={value}" for key, value in model.items())])


def stock_config(name: str, data: Path, folder: Path, batch: int, asr_width: int) -> Path:
    """Write the configuration of S3PRL's own task, and the tables that it needs; returns its path.

    Args:
        name: one of :data:`TASKS`.
        data: the folder of the corpora.
        folder: where to write.
        batch: utterances per step.
        asr_width: width of the layers of ASR's head.
    """
    import yaml

    task = TASKS[name]
    config = yaml.safe_load((Path(_heads()) / task.ours / "config.yaml").read_text(encoding="utf-8"))
    config["runner"] |= {"eval_step": NEVER, "save_step": NEVER, "log_step": 100, "gradient_accumulate_steps": 1}
    datarc = {task.batch_key: batch * task.batch_factor, "eval_batch_size": 1, "num_workers": 0}
    datarc |= _FILES[name](data / task.corpus, folder)
    expert = {"datarc": datarc, "modelrc": config["downstream_expert"]["modelrc"]}
    if name == "sv":
        config["runner"]["eval_dataloaders"] = ["test"]
        expert["modelrc"] = _sv_model(expert["modelrc"]["superb"])
    if name == "asr":
        expert["modelrc"]["project_dim"] = asr_width
        expert["modelrc"]["RNNs"]["dim"] = [asr_width] * 2
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**config, "downstream_expert": expert}), encoding="utf-8")
    return path


def _asr_model(width: int) -> dict[str, Any]:
    return {"project_dim": width, "RNNs.dim": f"[{width},{width}]"}


def _heads() -> str:
    import downstream_heads

    return downstream_heads.__path__[0]


def _asr(corpus: Path, folder: Path) -> dict[str, Any]:
    import soundfile

    parts = ("train-clean-100", "dev-clean", "test-clean")
    for part in parts:
        rows = [
            (path.relative_to(corpus).as_posix(), soundfile.info(path).frames, 0)
            for path in sorted((corpus / part).rglob("*.flac"))
        ]
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file_path", "length", "label"), *rows])
    from downstream_heads.elp_asr.characters import Characters

    symbols = Characters().symbols[4:]  # S3PRL adds the first four itself
    (folder / "char.dict").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")
    return {
        "libri_root": str(corpus),
        "bucket_file": str(folder),
        "dict_path": str(folder / "char.dict"),
        **{name: [part] for name, part in zip(("train", *parts[1:]), parts, strict=True)},
        "zero_infinity": True,
        "decoder_args": {"decoder_type": "None"},
    }


def _sv(corpus: Path, folder: Path) -> dict[str, Any]:
    trials = str(corpus / "voxceleb1_test_v2.txt")
    return {
        "file_path": str(corpus),
        "vad_config": {"min_sec": MIN_SAMPLES},  # S3PRL's name; its unit is samples
        "max_timestep": CROP,
        **{f"{part}_meta_data": trials for part in ("train", "dev", "test")},
    }


def _sv_model(ours: dict[str, Any]) -> dict[str, Any]:
    """Say in S3PRL's words what our head is."""
    network = {"agg_dim": ours["agg_dim"], "dropout_p": ours["dropout_p"], "batch_norm": ours["batch_norm"]}
    return {
        "module": "XVector",
        "input_dim": ours["input_dim"],
        "agg_dim": ours["agg_dim"],
        "agg_module": "SP",
        "utter_module": "UtteranceExtractor",
        "module_config": {"XVector": network},
        "ObjectiveLoss": "AMSoftmaxLoss",
        "LossConfig": {"AMSoftmaxLoss": {"s": ours["s"], "m": ours["m"]}},
    }


def _er(corpus: Path, folder: Path) -> dict[str, Any]:
    """S3PRL's preprocessing writes into the corpus, so it gets a folder with links to the sessions."""
    from s3prl.downstream.emotion import IEMOCAP_preprocess

    root = folder / "IEMOCAP"
    root.mkdir()
    for session in sorted(corpus.resolve().glob("Session*")):
        (root / session.name).symlink_to(session)
    IEMOCAP_preprocess.main(str(root))
    items = json.loads((root / "meta_data" / "Session1" / "train_meta_data.json").read_text(encoding="utf-8"))
    if not items["meta_data"]:
        raise ValueError(f"S3PRL's preprocessing found no utterance in {corpus}")
    return {"root": str(root), "meta_data": str(root / "meta_data"), "test_fold": "fold1", "pre_load": False,
            "valid_ratio": 0.2}  # fmt: skip


def _ic(corpus: Path, folder: Path) -> dict[str, Any]:
    return {"file_path": str(corpus)}


_FILES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"asr": _asr, "sv": _sv, "er": _er, "ic": _ic}
