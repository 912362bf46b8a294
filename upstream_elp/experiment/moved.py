"""Find a checkpoint's folder, backbone and data if they have moved since training."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from upstream_elp.backbones.family import is_remote
from upstream_elp.base import settings
from upstream_elp.base.settings import Settings
from upstream_elp.experiment.checkpoint import Remembered


def absent(place: str) -> bool:
    """Whether a backbone is given as a path that does not exist."""
    return not is_remote(place) and not Path(place).exists()


def takes_path(upstream: str) -> bool:
    """Whether ``-k`` of an upstream is a path or URL; for other upstreams it may be a name."""
    return upstream.endswith("_local") or (upstream.startswith("elp_") and not upstream.startswith("elp_hf_"))


def at_home(args: Namespace, path: str | Path, *, backbone: str | None = None) -> Namespace:
    """A checkpoint's flags, with the folder that it is in now as experiment folder.

    The recorded folder may have been moved since, or may be relative to another working directory. The same is true of
    the backbone: if it is missing, ``backbone`` replaces it. An adapter folder is never replaced by a backbone.

    Args:
        args: the flags.
        path: the checkpoint.
        backbone: where the backbone is if it is missing; ``$ELP_BACKBONE`` by default.
    """
    changed = {"expdir": str(Path(path).parent)}
    if (other := backbone or settings.current().backbone) and gone(args) and not adapted(args):
        changed["upstream_ckpt"] = other
    return Namespace(**{**vars(args), **changed})


def remembered(args: Namespace, *, chosen: Settings) -> dict[str, str]:
    """The settings of a checkpoint's run that this run does not set itself and whose paths still exist.

    Args:
        args: the checkpoint's flags.
        chosen: this run's own settings, which take precedence.
    """
    had = Remembered.of(args)
    places = {"data": had.data, "backbone": had.backbone}
    return {name: place for name, place in places.items() if place and not getattr(chosen, name) and not absent(place)}


def where_it_went(args: Namespace) -> str:
    """The end of a sentence about a checkpoint whose ``-k`` is gone."""
    if adapted(args):
        return (
            f"was trained with the adapter folder -k {args.upstream_ckpt}, which does not exist (any more); put it "
            "back, or pass its new place with -o args.upstream_ckpt=FOLDER"
        )
    return (
        f"was trained with -k {args.upstream_ckpt}, which does not exist (any more, or seen from this folder); put it "
        "back, or pass its new place with --backbone"
    )


def adapted(args: Namespace) -> bool:
    """Whether ``-k`` named an adapter folder, according to the checkpoint."""
    return Remembered.of(args).adapter_folder


def gone(args: Namespace) -> bool:
    """Whether ``-k`` names a file or folder that does not exist, seen from the current folder."""
    place = getattr(args, "upstream_ckpt", None)
    return bool(place) and takes_path(args.upstream) and absent(place)
