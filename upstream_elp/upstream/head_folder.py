"""Trained heads in an adapter folder: ``head.safetensors`` and ``head_config.yaml``, as safe to load as the adapter.

The files contain the trained featurizer and task head, and what is needed to use them: the head's options, how files
were read, and the meaning of the outputs. They contain neither machine paths nor code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from downstream_heads import registry
from upstream_elp.base.choices import BATCH, FEATURES_OF, PRECISIONS
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.tensor_files import read_tensors, write_tensors
from upstream_elp.base.version import __version__
from upstream_elp.base.yaml_files import read_yaml

FORMAT_VERSION = 1
CONFIG_FILE = "head_config.yaml"
TENSOR_FILE = "head.safetensors"
FEATURIZER, HEAD = "featurizer.", "head."
"""Prefixes of the tensors' names."""
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "a whole number": ((int,), "format_version upstream_dim upstream_rate"),
    "a string": ((str,), "made_with task precision features_of adapter_sha256 tensors_sha256"),
    "a mapping": ((Mapping,), "featurizer modelrc audio"),
    "a list, a mapping or null": ((Mapping, list, type(None)), "labels"),
    "a mapping or null": ((Mapping, type(None)), "threshold"),
}
_KEYS = {key: (types, kind) for kind, (types, keys) in _KINDS.items() for key in keys.split()}
_DEFAULTS = {"features_of": BATCH}
"""Keys that may be missing, and are only written with another value: older versions of the package lack them."""
_CHOICES = {"precision": PRECISIONS, "features_of": FEATURES_OF}


@dataclass(frozen=True)
class Selection:
    """The upstream features that the head sees: S3PRL's ``-s``, ``-l`` and ``--upstream_feature_normalize``."""

    feature: str = "hidden_states"
    layer: int | None = None
    normalize: bool = False


@dataclass(frozen=True)
class TrainedHead:
    """Everything that was trained after the upstream."""

    task: str
    selection: Selection
    upstream_dim: int
    """Features per frame."""
    upstream_rate: int
    """Samples per frame."""
    modelrc: dict[str, Any]
    """The head's options, as in the task's config."""
    audio: dict[str, Any]
    """Options for reading files in the task's evaluation."""
    precision: str
    """Precision of the upstream and the featurizer in the task's evaluation: ``fp32``, ``bf16`` or ``fp16``."""
    labels: Any
    """The meaning of the outputs: a list, lists by slot, or None."""
    tensors: dict[str, Tensor]
    """Tensors by name, ``featurizer.*`` and ``head.*``."""
    features_of: str = BATCH
    """Whether the task's evaluation computes features of a padded ``batch``, or of each ``utterance`` by itself."""
    threshold: dict[str, Any] | None = None
    """For speaker verification: the ``value`` at which misses equal false alarms, with its ``split`` and ``step``."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def has_head(folder: str | os.PathLike) -> bool:
    """Return whether an adapter folder contains a head."""
    return (Path(folder) / CONFIG_FILE).is_file()


def write_head(folder: Path, head: TrainedHead, *, adapter_sha256: str) -> None:
    """Write the two files of a head into an unfinished folder; ``adapter_sha256`` ties the head to its adapter."""
    described = {
        "format_version": FORMAT_VERSION,
        "made_with": f"s3prl-elp {__version__}",
        "task": head.task,
        "featurizer": asdict(head.selection),
        "upstream_dim": head.upstream_dim,
        "upstream_rate": head.upstream_rate,
        "modelrc": head.modelrc,
        "audio": head.audio,
        "precision": head.precision,
        "features_of": head.features_of,
        "labels": head.labels,
        "threshold": head.threshold,
        "adapter_sha256": adapter_sha256,
        "tensors_sha256": write_tensors(folder / TENSOR_FILE, head.tensors),
    }
    described = {key: value for key, value in described.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def read_head(folder: str | os.PathLike, *, adapter_sha256: str) -> TrainedHead:
    """Read the head in an adapter folder without running any of its content.

    Args:
        folder: the adapter folder.
        adapter_sha256: sha256 of the adapter's tensor file.

    Raises:
        ElpError: a missing, damaged or unreadable file, another format version, an unknown or missing key, a value of
            the wrong type, or the head of another adapter.
    """
    folder = Path(folder)
    where = folder / CONFIG_FILE
    raw = _read_config(where)
    if raw["adapter_sha256"] != adapter_sha256:
        raise ElpError(
            f"{where}: this head was trained with another adapter than the one in the folder; export both again"
        )
    return TrainedHead(
        task=raw["task"],
        selection=_selection(raw["featurizer"], where),
        upstream_dim=raw["upstream_dim"],
        upstream_rate=raw["upstream_rate"],
        modelrc=dict(raw["modelrc"]),
        audio=dict(raw["audio"]),
        precision=raw["precision"],
        features_of=raw["features_of"],
        labels=raw["labels"],
        tensors=read_tensors(folder / TENSOR_FILE, raw["tensors_sha256"], said_in=CONFIG_FILE),
        threshold=raw["threshold"],
    )


def _read_config(path: Path) -> dict[str, Any]:
    raw = read_yaml(path, by_hand=False)
    if not isinstance(raw, Mapping):
        raise ElpError(f"{path} must contain a mapping; export the adapter again")
    for key in raw:
        if key not in _KEYS:
            raise ElpError(f"{path}: unknown key {shown(key)}; the valid keys are: {', '.join(_KEYS)}")
    if raw.get("format_version") != FORMAT_VERSION:
        version = shown(raw.get("format_version"))
        raise ElpError(
            f"{path}: format_version must be {FORMAT_VERSION}, but is {version}; use the s3prl-elp that wrote it"
        )
    raw = {**_DEFAULTS, **raw}
    for key, (types, kind) in _KEYS.items():
        if key not in raw:
            raise ElpError(f"{path}: the key {key!r} is missing; export the adapter again")
        if not isinstance(raw[key], types) or isinstance(raw[key], bool):
            raise ElpError(f"{path}: the key {key!r} must be {kind}, but is {shown(raw[key])}")
    tasks = registry.names()
    if raw["task"] not in tasks:
        raise ElpError(f"{path}: unknown task {shown(raw['task'])}; the tasks are: {', '.join(tasks)}")
    for key, choices in _CHOICES.items():
        if raw[key] not in choices:
            raise ElpError(f"{path}: the key {key!r} must be one of {', '.join(choices)}, but is {shown(raw[key])}")
    for key in ("upstream_dim", "upstream_rate"):
        if raw[key] < 1:
            raise ElpError(f"{path}: the key {key!r} must be at least 1, but is {raw[key]}")
    return raw


def _selection(raw: Mapping[str, Any], where: Path) -> Selection:
    valid = ("feature", "layer", "normalize")
    if set(raw) != set(valid):
        raise ElpError(f"{where}: the key 'featurizer' must contain exactly {', '.join(valid)}")
    feature, layer, normalize = (raw[key] for key in valid)
    if not isinstance(feature, str) or not isinstance(normalize, bool):
        raise ElpError(f"{where}: featurizer.feature must be a string, and featurizer.normalize true or false")
    if layer is not None and (not isinstance(layer, int) or isinstance(layer, bool)):
        raise ElpError(f"{where}: featurizer.layer must be a whole number or null, but is {shown(layer)}")
    return Selection(feature, layer, normalize)
