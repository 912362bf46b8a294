"""Builds task experts the way S3PRL's runner does, and runs them without an upstream."""

import importlib
from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
import yaml

import downstream_heads

DIM = 12
RATE = 320
PACKAGE = Path(downstream_heads.__file__).parent


def packaged_config(task: str) -> dict:
    return yaml.safe_load((PACKAGE / task / "config.yaml").read_text())


def make_expert(
    task: str, expdir: Path, *, seed: int = 1, variant=None, datarc=None, modelrc=None, config=None, mode: str = "train"
):
    """An expert from the packaged config, with some keys of ``datarc`` and ``modelrc`` replaced."""
    config = config or packaged_config(task)
    block = config["downstream_expert"]
    block["datarc"] = {**block["datarc"], "num_workers": 0, **(datarc or {})}
    block["modelrc"] = {**block["modelrc"], **(modelrc or {})}
    expert = importlib.import_module(f"downstream_heads.{task}.expert").DownstreamExpert
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
    """A random projection of the spectrum of every 20 ms: cheap features that tell the toy's tones apart."""
    features = []
    for wav in wavs:
        frames = torch.as_tensor(wav, dtype=torch.float32)[: len(wav) // RATE * RATE].view(-1, RATE)
        features.append(torch.fft.rfft(frames).abs().log1p() @ _mixing(dim) / 4)  # (frames, dim)
    return features


class Scalars:
    """Stands for S3PRL's summary writer."""

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
