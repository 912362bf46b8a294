"""S3PRL's training checkpoints (``states-N.ckpt``, ``*-best.ckpt``): their entries, and how to read them safely.

Only this module knows the keys of the file. Exported adapters are in an *adapter folder*, which is not a checkpoint;
see :mod:`upstream_elp.upstream.adapter_folder`.
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
"""S3PRL's names of its three models, which are also keys of a checkpoint."""
OPTIMIZER, SCHEDULER = "Optimizer", "Scheduler"
"""The keys with which S3PRL's runner reads these two from a checkpoint."""
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
"""Entries that only resuming needs."""


@dataclass(frozen=True)
class Checkpoint:
    """The entries of a training checkpoint; those that the file does not have are None.

    ``*-best.ckpt`` files are for evaluation and export, and do not have the entries that only resuming needs. S3PRL's
    own loop does not write ``position``, ``random``, ``records``, ``scaler`` and ``origin``.
    """

    optimizer: dict[str, Any] | None = None
    step: int | None = None
    """Number of optimizer steps done."""
    epoch: int | None = None
    args: Namespace = field(default_factory=Namespace)
    """S3PRL's flags, and our own that :class:`Remembered` lists."""
    config: dict[str, Any] = field(default_factory=dict)
    """The task's configuration, overrides applied."""
    position: dict[str, Any] | None = None
    """How far the training has come; see :class:`upstream_elp.training.position.Position`."""
    random: list[dict[str, Any]] | None = None
    """Each rank's random states."""
    records: dict[str, list] | None = None
    """The head's records since the last log line."""
    origin: dict[str, Any] | None = None
    """The adapter configuration and the frozen tensors behind this; see :mod:`upstream_elp.experiment.origin`."""
    upstream: Tensors | None = None
    """Trained tensors of the upstream; None if it stayed frozen."""
    featurizer: Tensors | None = None
    head: Tensors | None = None
    scheduler: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    """The loss scale of fp16."""
    world_size: int | None = None
    """Number of ranks; None for a single process."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Unknown entries."""

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint in a file's content; any entry may be missing."""
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
        """The checkpoint with only the entries that evaluation and export need."""
        return dataclasses.replace(self, **dict.fromkeys(_TO_GO_ON))

    @property
    def ranks(self) -> int:
        """The number of processes that trained it."""
        return self.world_size or 1

    @property
    def trains_upstream(self) -> bool:
        """Whether it contains trained tensors of the upstream."""
        return isinstance(self.upstream, Mapping)


@dataclass(frozen=True)
class Remembered:
    """Our own flags that a checkpoint keeps with S3PRL's, as the attributes ``elp_data`` and so on.

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
        """Our own flags in a checkpoint's flags; those that S3PRL's own loop saved have none."""
        found = {spec.name: getattr(args, f"elp_{spec.name}", None) for spec in dataclasses.fields(cls)}
        return cls(**{**found, "adapter_folder": bool(found["adapter_folder"])})

    def added_to(self, args: Namespace) -> Namespace:
        """The flags with our own added."""
        own = {f"elp_{name}": value for name, value in dataclasses.asdict(self).items()}
        return Namespace(**{**vars(args), **own})


def find_checkpoint(place: str | Path) -> Path:
    """Find the checkpoint that a user means.

    Args:
        place: a checkpoint, or an experiment folder with one ``*-best.ckpt`` or else with ``states-N.ckpt``, of which
            the latest is taken.

    Raises:
        ElpError: no checkpoint there, or several best ones.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise ElpError(f"{place}: no such experiment folder or checkpoint")
    best = checkpoints.best(place)
    if len(best) > 1:
        raise ElpError(f"{place} has several best checkpoints ({', '.join(p.name for p in best)}); name one of them")
    states = checkpoints.states(place)
    if not best and not states:
        raise ElpError(f"{place} has no checkpoint (*-best.ckpt or states-N.ckpt); train first")
    return best[0] if best else states[-1]


def _namespace_admitted() -> contextlib.AbstractContextManager:
    """Allow ``argparse.Namespace`` for one load; torch's own context would also revoke an earlier permission."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return contextlib.nullcontext()
    return torch.serialization.safe_globals([argparse.Namespace])


def read_checkpoint(path: str | Path, *, hint: str = "") -> Checkpoint | None:
    """Read a checkpoint, leaving its tensors on disk until they are used.

    Args:
        path: the file.
        hint: what the user can do if the file cannot be read.

    Returns:
        The checkpoint, in which any entry may be missing; None if the file is not a mapping.

    Raises:
        ElpError: a file that cannot be read without running code from it.
    """
    with _namespace_admitted():
        content = load_safely(path, mmap=True, hint=hint)
    return Checkpoint.from_mapping(content) if isinstance(content, dict) else None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a training checkpoint; the only class allowed in it is the ``argparse.Namespace`` of its arguments.

    Raises:
        ElpError: an unreadable file, or not a training checkpoint of S3PRL.
    """
    with _namespace_admitted():
        content = load_safely(path, hint="name a training checkpoint (states-N.ckpt or *-best.ckpt)")
    if isinstance(content, dict) and {"Args", "Config", "Step"} <= set(content):
        checkpoint = Checkpoint.from_mapping(content)
        if all(hasattr(checkpoint.args, name) for name in ("upstream", "upstream_ckpt", "upstream_model_config")):
            return checkpoint
    raise ElpError(
        f"{path} is not a training checkpoint, which has Args, Config and Step; name a states-N.ckpt or *-best.ckpt"
    )
