"""Load a trained model from an adapter folder or a training checkpoint."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from downstream_heads import registry
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.experiment.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from upstream_elp.host.features import Probe
from upstream_elp.inference.model import TrainedModel
from upstream_elp.inference.rebuild import rebuild, selection, trained_head, why_no_head
from upstream_elp.training.precision import Precision
from upstream_elp.upstream.adapter_folder import adapter_sha256, is_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.head_folder import CONFIG_FILE, FEATURIZER, HEAD, Selection, TrainedHead, has_head, read_head
from upstream_elp.upstream.selfcheck import every_site_entered


def load(
    place: str | os.PathLike,
    *,
    backbone: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    resample: bool = False,
    channels: str | None = None,
    precision: str | None = None,
) -> TrainedModel:
    """Load a trained model; see :func:`upstream_elp.load`, which imports this module when it is called."""
    device = _device(device)
    with settings.in_force(replace(settings.current(), self_check=False)):  # most of it is about training
        if is_adapter_folder(place):
            upstream, head, where = _from_folder(Path(place), backbone)
            chosen = head.selection
        else:
            path = find_checkpoint(place)
            checkpoint, where = load_checkpoint(path), str(path)
            if reason := why_no_head(checkpoint):
                raise ElpError(f"{where} cannot be used: {reason}")
            upstream = rebuild(checkpoint, where, None if backbone is None else os.fspath(backbone))
            chosen, head = selection(checkpoint), None
    with every_site_entered(upstream) if settings.current().self_check else contextlib.nullcontext():
        featurizer = build_featurizer(upstream, chosen, where=where)
    head = head or head_behind(featurizer, checkpoint, where)
    changes = _changes(head, resample=resample, channels=channels)
    shortest = getattr(upstream, "min_samples", None)  # S3PRL's own upstreams do not have it
    predictor = build_predictor(head, where=where, changes=changes, min_samples=shortest)
    if (head.upstream_dim, head.upstream_rate) != (featurizer.output_dim, featurizer.downsample_rate):
        raise ElpError(
            f"{where} needs {head.upstream_dim} features every {head.upstream_rate} samples, but its upstream returns "
            f"{featurizer.output_dim} every {featurizer.downsample_rate}"
        )
    _fill(featurizer, head.part(FEATURIZER), where=where, what="featurizer")
    kind = Precision({"precision": precision or head.precision}, device)
    return TrainedModel(upstream, featurizer, predictor, precision=kind, features_of=head.features_of)


def head_behind(featurizer: nn.Module, checkpoint: Checkpoint, where: str) -> TrainedHead:
    """Return the head of a checkpoint that has one, given the featurizer that was built for it."""
    return trained_head(checkpoint, where, upstream_dim=featurizer.output_dim, upstream_rate=featurizer.downsample_rate)


def build_featurizer(upstream: nn.Module, chosen: Selection, *, where: str) -> nn.Module:
    """Build S3PRL's featurizer for an upstream on the CPU, without its messages and without changing random states.

    Raises:
        ElpError: the upstream does not offer the selection.
    """
    from s3prl.upstream.interfaces import Featurizer

    upstream.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        try:
            featurizer = Featurizer(
                Probe(upstream, chosen.feature, chosen.layer),
                feature_selection=chosen.feature,
                upstream_device="cpu",
                layer_selection=chosen.layer,
                normalize=chosen.normalize,
            )
        except ElpError as error:
            raise ElpError(f"{where}: {error}") from error
    return featurizer.eval()


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ElpError(f"device {shown(device)}: no such device; choose cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise ElpError(f"device {chosen} does not exist on this machine; use cpu")
    return chosen


def _from_folder(folder: Path, backbone: str | os.PathLike | None) -> tuple[nn.Module, TrainedHead, str]:
    if not has_head(folder):
        raise ElpError(
            f"{folder} contains adapters but no head ({CONFIG_FILE}), so it cannot give answers; export it again "
            "without --no-head, or use it with -u elp_local -k to train a head"
        )
    head = read_head(folder, adapter_sha256=adapter_sha256(folder))
    return build_upstream(None, ckpt=folder, backbone=backbone), head, str(folder / CONFIG_FILE)


def _changes(head: TrainedHead, *, resample: bool, channels: str | None) -> dict[str, Any]:
    """Return the audio options that the caller changes; speaker verification always converts rate and channels."""
    wanted = {"resample": True} if resample else {}
    wanted |= {} if channels is None else {"channels": channels}
    if "channels" not in registry.find(head.task).load("predictor").audio_defaults:
        if channels is not None:
            raise ElpError(f"{head.task} averages channels, as its recipe does; remove the choice of channels")
        return {}
    return wanted


def build_predictor(
    head: TrainedHead, *, where: str, changes: Mapping[str, Any] | None = None, min_samples: int | None = None
) -> nn.Module:
    """Build the task's head with its tensors; on the meta device first, so that a folder cannot exhaust the memory.

    Args:
        head: the content of a folder or checkpoint.
        where: its place, for errors.
        changes: keys of ``audio`` with other values.
        min_samples: shortest wave that the upstream accepts, if it is known.

    Raises:
        ElpError: the task refuses the options, or the tensors do not fit them.
    """
    try:
        with torch.device("meta"):
            predictor = registry.find(head.task).load("predictor")(
                upstream_dim=head.upstream_dim,
                upstream_rate=head.upstream_rate,
                modelrc=head.modelrc,
                audio={**head.audio, **(changes or {})},
                labels=head.labels,
                threshold=head.threshold,
                **({} if min_samples is None else {"min_samples": min_samples}),
            )
    except ElpError as error:
        raise ElpError(f"{where}: {error}") from error
    except (RuntimeError, TypeError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ElpError(f"{where}: a head of these sizes cannot be built ({reason})") from error
    _fill(predictor, head.part(HEAD), where=where, what="head")
    return predictor.eval().requires_grad_(False)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str, what: str) -> None:
    """Load tensors into a module.

    Raises:
        ElpError: a tensor is missing, unknown, or has another shape or type; the message names the first one.
    """
    expected = module.state_dict()
    for problem, names in (
        ("lacks the", expected.keys() - tensors.keys()),
        ("contains the unknown", tensors.keys() - expected),
    ):
        if names:
            raise ElpError(f"{where}: its {what} {problem} tensor {shown(min(names))}")
    for name, tensor in expected.items():
        given = tensors[name]
        if not isinstance(given, Tensor) or given.is_floating_point() != tensor.is_floating_point():
            raise ElpError(f"{where}: the {what}'s tensor {name} contains numbers of another type")
        if given.shape != tensor.shape:
            raise ElpError(
                f"{where}: the {what}'s tensor {name} has the shape {tuple(given.shape)}, but its options need "
                f"{tuple(tensor.shape)}"
            )
    # copied, since tensors in a safetensors file are not aligned, and kernels would round differently
    own = {name: tensors[name].to(tensor.dtype, copy=True) for name, tensor in expected.items()}
    module.load_state_dict(own, assign=True)
