"""Rebuild what was trained from a training checkpoint: the upstream with its adapters, and the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downstream_heads import registry
from downstream_heads.common import memory
from upstream_elp.base import settings
from upstream_elp.base.choices import BATCH, FEATURES_OF
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import choose
from upstream_elp.experiment import origin
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.experiment.moved import adapted, gone, remembered, where_it_went
from upstream_elp.launch import arguments
from upstream_elp.launch.registry import register
from upstream_elp.training.precision import name_of
from upstream_elp.upstream.adapter_folder import is_adapter_folder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.head_folder import FEATURIZER, HEAD, Selection, TrainedHead


def rebuild(checkpoint: Checkpoint, where: str, backbone: str | None) -> ElpExpert:
    """Build the expert of a training checkpoint with its trained tensors.

    If the checkpoint does not contain an upstream, the upstream was frozen: either its preset trains nothing in it, or
    a trained adapter folder was passed with ``-k``.

    Args:
        checkpoint: the training checkpoint.
        where: its path.
        backbone: the place of the backbone, if it was moved after training; by default ``$ELP_BACKBONE``, then its
            place during training.

    Raises:
        ElpError: the checkpoint does not contain adapters, or not those of its configuration.
    """
    args = checkpoint.args
    if not str(args.upstream).startswith("elp_"):
        raise ElpError(
            f"{where} was trained with the upstream {args.upstream}, which has no adapters; only elp_* upstreams can "
            "be exported, merged, or used by elp infer"
        )
    register()
    from s3prl import hub

    arguments.name(f"{where}: -u", args.upstream, hub.options())
    place = args.upstream_ckpt
    if gone(args) and (backbone is None or adapted(args)):
        raise ElpError(f"{where} {where_it_went(args)}")
    if place is not None and is_adapter_folder(place):  # the run started from a trained adapter
        backbone = backbone or remembered(args, chosen=settings.current()).get("backbone")
        expert = getattr(hub, args.upstream)(ckpt=place, backbone=backbone)
    else:
        expert = getattr(hub, args.upstream)(ckpt=backbone or place, model_config=origin.configuration(checkpoint))
    origin.check(expert, checkpoint, where=where)
    if checkpoint.trains_upstream:
        expert.load_state_dict(checkpoint.upstream)
    elif expert.injection.declared and not expert.trained:
        raise ElpError(f"{where} does not contain adapters: it was trained without -f, so there is nothing to export")
    return expert


def why_no_head(checkpoint: Checkpoint) -> str | None:
    """Return why a training checkpoint has no head that can be exported or used; None if it has one."""
    task = getattr(checkpoint.args, "downstream", None)
    if task not in registry.names():
        return f"its task is {task}, and only heads of {', '.join(registry.names())} can be used"
    if not all(isinstance(tensors, Mapping) for tensors in (checkpoint.featurizer, checkpoint.head)):
        return "the checkpoint does not contain a featurizer and a head"
    return None


def trained_head(checkpoint: Checkpoint, where: str, *, upstream_dim: int, upstream_rate: int) -> TrainedHead:
    """Return the head of a training checkpoint that has one.

    Args:
        checkpoint: the training checkpoint.
        where: its path.
        upstream_dim: features per frame in the input of the head.
        upstream_rate: samples per frame.

    Raises:
        ElpError: the checkpoint has no label tables, or the task refuses its config.
    """
    about = registry.find(checkpoint.args.downstream)
    predictor = about.load("predictor")
    known = _memory(checkpoint, where)
    block = _block(checkpoint.config, "downstream_expert")
    datarc = _block(block, "datarc")
    try:
        modelrc = predictor.head_options(_block(block, "modelrc"))
        audio = predictor.audio_options({key: datarc[key] for key in predictor.audio_defaults if key in datarc})
    except ElpError as error:
        raise ElpError(f"{where}: {error}") from error
    threshold = known.get("threshold")
    if isinstance(threshold, Mapping) and threshold.get("step") != checkpoint.step:
        threshold = None  # from an evaluation before the last training steps
    runner = dict(_block(checkpoint.config, "runner"))
    tensors = {f"{FEATURIZER}{name}": tensor for name, tensor in checkpoint.featurizer.items()}
    tensors |= {f"{HEAD}{name}": tensor for name, tensor in predictor.trained_tensors(checkpoint.head).items()}
    return TrainedHead(
        task=about.name,
        selection=selection(checkpoint),
        upstream_dim=upstream_dim,
        upstream_rate=upstream_rate,
        modelrc=modelrc,
        audio=audio,
        precision=name_of(runner),
        features_of=choose(runner.get("features_of", BATCH), FEATURES_OF, key="runner.features_of"),
        labels=known.get("labels"),
        tensors=tensors,
        threshold=threshold,
    )


def selection(checkpoint: Checkpoint) -> Selection:
    """Return the upstream features that a checkpoint's head saw; S3PRL's defaults if the checkpoint does not say."""
    args, default = checkpoint.args, Selection()
    return Selection(
        feature=getattr(args, "upstream_feature_selection", default.feature),
        layer=getattr(args, "upstream_layer_selection", default.layer),
        normalize=bool(getattr(args, "upstream_feature_normalize", default.normalize)),
    )


def _memory(checkpoint: Checkpoint, where: str) -> dict[str, Any]:
    if memory.KEY not in checkpoint.head:
        raise ElpError(
            f"{where} is from an older version and does not record the meaning of the head's outputs; resume training "
            "for a step (elp run -m train -e) to write a new checkpoint, or export it with --no-head"
        )
    return memory.decode(checkpoint.head[memory.KEY])


def _block(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    block = config.get(key)
    return block if isinstance(block, Mapping) else {}
