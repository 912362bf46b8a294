"""Replacements for code in S3PRL's own modules, which :mod:`upstream_elp.host.table` puts there."""

import contextlib
import datetime
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import cache_dir, whole_file
from upstream_elp.base.folders import list_files
from upstream_elp.host.override import override

FEW_FILES = 500
"""Below this number of files, starting worker processes costs more than it saves."""


# s3prl.utility.helper ----------------------------------------------------------------------------------------------


def keep_isinstance(helper: ModuleType) -> None:
    """Disable ``hack_isinstance``, which replaces the builtin in the whole process for torch below 1.8."""
    helper.hack_isinstance = _nothing


def replace_override(helper: ModuleType) -> None:
    helper.override = override


def _nothing() -> None:
    """Leave the builtin as it is."""


# s3prl.downstream.runner -------------------------------------------------------------------------------------------


def wrap_ddp(runner: ModuleType) -> None:
    runner.DDP = distributed


def distributed(model: torch.nn.Module, **kwargs: Any) -> DistributedDataParallel:
    """Wrap a model for several ranks, without ``device_ids`` and without broadcasting buffers.

    ``device_ids`` must be None on a CPU. On a GPU, torch would copy the arguments to the device, where they already
    are. It cannot copy the ``defaultdict`` of records, and what the head wrote into a copy would be lost. Buffers are
    not broadcast, because only rank 0 evaluates and its forward pass would wait for the others.
    """
    return DistributedDataParallel(model, **{**kwargs, "device_ids": None, "broadcast_buffers": False})


def follows() -> bool:
    """Whether this process is a rank above 0, which neither evaluates nor writes."""
    return torch.distributed.is_initialized() and torch.distributed.get_rank() > 0


def is_follower(progress: Any) -> bool:
    """Whether this rank is not the leader; if so, count its step, which S3PRL's runner.py forgets."""
    if follows():
        progress.update(1)
        return True
    return False


def cuda_scope(device: str) -> contextlib.AbstractContextManager:
    """``torch.cuda.device`` for a CUDA device; a null context for a CPU."""
    return torch.cuda.device(device) if torch.device(device).type == "cuda" else contextlib.nullcontext()


def save_atomically(states: Any, path: str | os.PathLike) -> None:
    """``torch.save`` through a temporary file, so that a killed job does not leave a truncated checkpoint."""
    with whole_file(path, "wb") as file:
        torch.save(states, file)


# s3prl.run_downstream ----------------------------------------------------------------------------------------------


def set_device(index: int) -> None:
    """Select this rank's GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())


def group_timeout() -> datetime.timedelta:
    """How long ranks wait for each other: long enough for rank 0's evaluation (``ELP_DDP_HOURS``)."""
    return datetime.timedelta(hours=settings.current().ddp_hours)


# s3prl.downstream.sv_voxceleb1.dataset -----------------------------------------------------------------------------


def length_cache(root: str | os.PathLike, name: str) -> Path:
    """The cache file for the trimmed lengths of this corpus, identified by its path and its files' names and sizes.

    Raises:
        ElpError: if the corpus folder is missing, or a folder in it cannot be listed.
    """
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise ElpError(
            f"{root}: no such VoxCeleb1 folder; set config.downstream_expert.datarc.file_path to the corpus root"
        )
    digest = hashlib.sha256(str(root).encode())
    for file in list_files(root, root=root, suffix=""):
        digest.update(f"{file}\0{(root / file).stat().st_size}\n".encode())
    cache = cache_dir() / "sv_lengths"
    cache.mkdir(parents=True, exist_ok=True)
    return cache / f"{name}-{digest.hexdigest()[:16]}.pt"


def list_cache(root: str | os.PathLike, table: str | os.PathLike, split: str) -> Path:
    """The cache file for a split's list of files, identified by the corpus' path and the table's content.

    Raises:
        ElpError: if the corpus folder or the table is missing.
    """
    root, table = Path(root).expanduser().resolve(), Path(table).expanduser()
    for place, key, there in ((root, "file_path", root.is_dir()), (table, "meta_data", table.is_file())):
        if not there:
            raise ElpError(f"{place} does not exist; correct config.downstream_expert.datarc.{key}")
    digest = hashlib.sha256(str(root).encode() + table.read_bytes())
    return cache_dir() / "sid_lists" / f"{split}-{digest.hexdigest()[:16]}.pkl"


# processes ---------------------------------------------------------------------------------------------------------


def jobs(wanted: int, paths: Sequence[Any]) -> int:
    """Number of processes for trimming: one for a small corpus, otherwise at most the number of cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if len(paths) < FEW_FILES else max(1, min(wanted, cores))
