"""The origin of a checkpoint's trained tensors: the adapter's configuration, and the tensors that stayed frozen.

``-k`` and ``-g`` name files, and files change. A checkpoint that only named them would silently be used with another
backbone or another activation whenever the shapes happen to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from upstream_elp.adapters.config import load_config
from upstream_elp.backbones.fingerprint import digest
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.experiment.existing import differences
from upstream_elp.upstream.adapter_folder import is_adapter_folder

_SAID = ("name", "description", "source")
"""Keys of a configuration that do not affect the adapter."""


def origin(upstream: nn.Module, *, trained: bool) -> dict[str, Any]:
    """The origin of a checkpoint as plain values; S3PRL's own checkpoints have none and are not compared.

    Args:
        upstream: one of ours or a stock one.
        trained: whether the checkpoint contains its trainable tensors.

    Returns:
        ``config``: the adapter's configuration, None for a stock upstream; ``backbone``: the sha256 of the frozen
        backbone, None for a stock upstream that is trained; ``adapter``: the sha256 of adapters that stayed frozen, or
        None.
    """
    if not hasattr(upstream, "injection"):
        return {"config": None, "backbone": None if trained else digest(upstream.state_dict()), "adapter": None}
    frozen = {} if trained else upstream.injection.parameters(upstream)
    return {
        "config": upstream.config.to_dict(),
        "backbone": upstream.fingerprint.sha256,
        "adapter": digest(frozen) if frozen else None,
    }


def configuration(checkpoint: Checkpoint) -> Any:
    """The ``model_config`` for an ``elp_*`` entry: the checkpoint's own configuration, or else the value of ``-g``.

    None if the adapter came from a folder, which has its own.
    """
    args, known = checkpoint.args, checkpoint.origin or {}
    if args.upstream_ckpt is not None and is_adapter_folder(args.upstream_ckpt):
        return None
    return known.get("config") or args.upstream_model_config


def check(upstream: nn.Module, checkpoint: Checkpoint, *, where: str, config: bool = True) -> None:
    """Compare a newly built upstream with the one that a checkpoint was trained with.

    Args:
        upstream: the upstream as built now.
        checkpoint: the checkpoint.
        where: the checkpoint's path.
        config: whether to compare the configuration too.

    Raises:
        ElpError: it is another one.
    """
    had = checkpoint.origin
    if not isinstance(had, Mapping):
        return
    now = origin(upstream, trained=checkpoint.trains_upstream)
    if had.get("backbone") != now["backbone"]:
        raise ElpError(
            f"{where} was trained on another backbone (sha256 {str(had.get('backbone'))[:12]}; this one has "
            f"{str(now['backbone'])[:12]}); restore the file that -k named, or pass the right one with --backbone"
        )
    if config and (changed := _changed(had.get("config"), now["config"])):
        raise ElpError(
            f"{where} was trained with another adapter configuration than -k has now ({', '.join(changed[:3])}); "
            "restore the folder that -k named"
        )
    if had.get("adapter") != now["adapter"]:
        raise ElpError(
            f"{where} was trained with another frozen adapter than {getattr(checkpoint.args, 'upstream_ckpt', None)} "
            "has now; restore the folder that -k named"
        )


def _changed(had: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    if had is None or now is None:
        return [] if had == now else ["one has no adapter"]
    had, now = (load_config(each).to_dict() for each in (had, now))
    return differences(*({key: each[key] for key in each if key not in _SAID} for each in (had, now)))
