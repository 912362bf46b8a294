"""S3PRL's training checkpoints (``states-N.ckpt``, ``*-best.ckpt``): their entries, and how to read them safely.

This is the one place that knows the keys of the file. Adapters that were exported lie in an *adapter folder*, which is
not a checkpoint; see :mod:`upstream_elp.upstream.adapter_folder`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from upstream_elp.base.errors import ElpError
from upstream_elp.base.safe_load import load_safely
from upstream_elp.host import checkpoints

UPSTREAM, FEATURIZER, DOWNSTREAM = MODELS = ("Upstream", "Featurizer", "Downstream")
"""S3PRL's names of its three models, which are keys of a checkpoint too."""
OPTIMIZER, SCHEDULER = "Optimizer", "Scheduler"
"""The names by which S3PRL's runner takes these two out of a checkpoint."""
Tensors = Mapping[str, Any]


_KEYS = {
    "optimizer": OPTIMIZER,
    "step": "Step",
    "epoch": "Epoch",
    "args": "Args",
    "config": "Config",
    "position": "Position",
    "random": "Random",
    "records": "Records",
    "origin": "Origin",
    "upstream": UPSTREAM,
    "featurizer": FEATURIZER,
    "head": DOWNSTREAM,
    "scheduler": SCHEDULER,
    "scaler": "Scaler",
    "world_size": "WorldSize",
}
"""Attribute -> key in the file, in the file's order."""
_TO_GO_ON = ("optimizer", "position", "random", "records", "scheduler", "scaler")
"""What only a continuation needs."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training checkpoint holds; an entry that the file lacks is None.

    ``*-best.ckpt`` are for evaluation and export, and lack what only a continuation needs. S3PRL's own loop writes no
    ``position``, ``random``, ``records``, ``scaler`` and ``origin``.
    """

    optimizer: dict[str, Any] | None = None
    step: int | None = None
    """Optimizer steps that were made."""
    epoch: int | None = None
    args: Namespace = field(default_factory=Namespace)
    """S3PRL's flags, and those of ours that :class:`Remembered` knows."""
    config: dict[str, Any] = field(default_factory=dict)
    """The task's configuration, overrides applied."""
    position: dict[str, Any] | None = None
    """How far the training has come; see :class:`upstream_elp.training.position.Position`."""
    random: list[dict[str, Any]] | None = None
    """Each rank's random states."""
    records: dict[str, list] | None = None
    """What the head recorded since the last log line."""
    origin: dict[str, Any] | None = None
    """What the tensors belong to; see :mod:`upstream_elp.experiment.origin`."""
    upstream: Tensors | None = None
    """Trained tensors of the upstream; None if it stayed frozen."""
    featurizer: Tensors | None = None
    head: Tensors | None = None
    scheduler: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    """Of fp16: the scale of the loss."""
    world_size: int | None = None
    """Number of ranks; None for a single process."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Entries that we do not know."""

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint that a file's content describes; any entry may be absent."""
        known = {key: name for name, key in _KEYS.items()}
        values = {known[key]: value for key, value in content.items() if key in known}
        return cls(**values, others={key: value for key, value in content.items() if key not in known})

    def to_mapping(self) -> dict[str, Any]:
        """The content of the file."""
        nothing = Checkpoint()
        values = {name: getattr(self, name) for name in _KEYS}
        there = {_KEYS[name]: value for name, value in values.items() if value != getattr(nothing, name)}
        return {**there, **self.others}

    def without_progress(self) -> Checkpoint:
        """What evaluation and export need."""
        return dataclasses.replace(self, **dict.fromkeys(_TO_GO_ON))

    @property
    def ranks(self) -> int:
        """How many processes trained it."""
        return self.world_size or 1

    @property
    def trains_upstream(self) -> bool:
        """Whether it holds trained tensors of the upstream."""
        return isinstance(self.upstream, Mapping)


@dataclass(frozen=True)
class Remembered:
    """What the flags in a checkpoint keep of our own flags; the attributes are named ``elp_data`` and so on.

    Args:
        data: where the corpora were.
        backbone: where the backbone of an adapter folder was, or a backbone that had moved.
        adapter_folder: whether ``-k`` named an adapter folder.
    """

    data: str | None = None
    backbone: str | None = None
    adapter_folder: bool = False

    @classmethod
    def of(cls, args: Namespace) -> Remembered:
        """What a checkpoint's flags keep; flags that S3PRL's own loop saved keep nothing."""
        found = {spec.name: getattr(args, f"elp_{spec.name}", None) for spec in dataclasses.fields(cls)}
        return cls(**{**found, "adapter_folder": bool(found["adapter_folder"])})

    def added_to(self, args: Namespace) -> Namespace:
        """The flags with these."""
        own = {f"elp_{name}": value for name, value in dataclasses.asdict(self).items()}
        return Namespace(**{**vars(args), **own})


def find_checkpoint(place: str | Path) -> Path:
    """Find the checkpoint that a user means.

    Args:
        place: a checkpoint file, or an experiment directory: then its one ``*-best.ckpt``, else its latest
            ``states-N.ckpt``.

    Raises:
        ElpError: no checkpoint there, or several best ones.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise ElpError(f"there is no experiment directory or checkpoint at {place}")
    best = sorted(place.glob("*-best.ckpt"))
    if len(best) > 1:
        raise ElpError(f"{place} holds several best checkpoints ({', '.join(p.name for p in best)}); name one of them")
    states = checkpoints.states(place)
    if not best and not states:
        raise ElpError(f"{place} holds no checkpoint (*-best.ckpt or states-N.ckpt); train first")
    return best[0] if best else states[-1]


def _namespace_admitted() -> contextlib.AbstractContextManager:
    """Admit ``argparse.Namespace`` for one load; torch's own context would also revoke what was admitted before it."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return contextlib.nullcontext()
    return torch.serialization.safe_globals([argparse.Namespace])


def read_checkpoint(path: str | Path, *, hint: str = "") -> Checkpoint | None:
    """Read what a file holds of a checkpoint, its tensors staying on disk until they are used.

    Args:
        path: the file.
        hint: what the user can do about a file that cannot be read.

    Returns:
        The checkpoint, of which any entry may be absent; None for a file that holds no entries at all.

    Raises:
        ElpError: a file that cannot be read without running code from it.
    """
    with _namespace_admitted():
        content = load_safely(path, mmap=True, hint=hint)
    return Checkpoint.from_mapping(content) if isinstance(content, dict) else None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a training checkpoint; of classes, only the ``argparse.Namespace`` of its arguments is admitted.

    Raises:
        ElpError: unreadable file, or not a training checkpoint of S3PRL.
    """
    with _namespace_admitted():
        content = load_safely(path, hint="give a training checkpoint (states-N.ckpt or *-best.ckpt)")
    if isinstance(content, dict) and {"Args", "Config", "Step"} <= set(content):
        checkpoint = Checkpoint.from_mapping(content)
        if all(hasattr(checkpoint.args, name) for name in ("upstream", "upstream_ckpt", "upstream_model_config")):
            return checkpoint
    raise ElpError(f"{path} is not a training checkpoint: the keys Args, Config and Step are expected")
