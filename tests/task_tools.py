"""Builds task experts the way S3PRL's runner does, and runs them without an upstream."""

from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
import yaml

from downstream_heads import registry
from downstream_heads.contract import FOLDER

DIM = 12
RATE = 320
PACKAGE = FOLDER
TASKS = registry.names()
#: what the toys' utterances need and what makes the heads small, where a task has something of the kind
SMALL_DATA = {"elp_sv": {"min_samples": 16000, "max_timestep": 8000, "train_batch_size": 4}}
SMALL_HEAD = {
    "elp_asr": {"project_dim": 8, "RNNs": {"dim": [6, 6]}},
    "elp_sv": {"superb": {"input_dim": 8, "agg_dim": 8}, "linear": {"projector_dim": 8}},
}


def packaged_config(task: str) -> dict:
    return yaml.safe_load(registry.find(task).config.read_text())


def make_expert(
    task: str, expdir: Path, *, seed: int = 1, variant=None, datarc=None, modelrc=None, config=None, mode: str = "train"
):
    """An expert from the packaged config, with some keys of ``datarc`` and ``modelrc`` replaced."""
    config = config or packaged_config(task)
    block = config["downstream_expert"]
    block["datarc"] = {**block["datarc"], "num_workers": 0, **(datarc or {})}
    block["modelrc"] = {**block["modelrc"], **(modelrc or {})}
    expert = registry.find(task).load("expert")
    torch.manual_seed(seed)
    return expert(
        upstream_dim=DIM,
        upstream_rate=RATE,
        **config,
        expdir=str(expdir),
        seed=seed,
        downstream_variant=variant,
        device="cpu",
        mode=mode,
    )


@cache
def _mixing(dim: int) -> torch.Tensor:
    return torch.randn(RATE // 2 + 1, dim, generator=torch.Generator().manual_seed(0))


def fake_features(wavs, *, dim: int = DIM) -> list[torch.Tensor]:
    """A random projection of the spectrum of every 20 ms: cheap features that distinguish the tones of the toys."""
    features = []
    for wav in wavs:
        frames = torch.as_tensor(wav, dtype=torch.float32)[: len(wav) // RATE * RATE].view(-1, RATE)
        features.append(torch.fft.rfft(frames).abs().log1p() @ _mixing(dim) / 4)  # (frames, dim)
    return features


def names_in(batch) -> list[str]:
    """The names of the utterances in a batch, wherever the task puts them."""
    return next(list(column) for column in batch[1:] if all(isinstance(value, str) for value in column))


def outputs(expert, features) -> torch.Tensor:
    """Outputs of the head: logits, log-probabilities or embeddings, one row per utterance."""
    if hasattr(expert, "log_probs"):
        return expert.log_probs(features)[0]
    if hasattr(expert, "embed"):
        return expert.embed(features, [str(place) for place in range(len(features))])
    return expert.logits(features)


class Scalars:
    """A stand-in for S3PRL's summary writer."""

    def __init__(self):
        self.values = {}

    def add_scalar(self, name, value, global_step=None):
        self.values[name] = (value, global_step)


def run_split(expert, split: str, *, step: int = 1, logger=None):
    """One pass over a split as in S3PRL's ``evaluate``; returns (records, checkpoint names, losses)."""
    records = defaultdict(list)
    losses = []
    for number, (wavs, *others) in enumerate(expert.get_dataloader(split)):
        wavs = [torch.FloatTensor(wav) for wav in wavs]
        losses.append(expert(split, fake_features(wavs), *others, records=records, batch_id=number))
    names = expert.log_records(
        split,
        records=records,
        logger=logger or Scalars(),
        global_step=step,
        batch_ids=list(range(len(losses))),
        total_batch_num=len(losses),
    )
    return records, names, losses
