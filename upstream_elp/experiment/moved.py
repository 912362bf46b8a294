"""What a checkpoint needs may have moved since training: its folder, its backbone, its data."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from upstream_elp.backbones.family import is_remote
from upstream_elp.base import settings
from upstream_elp.base.settings import Settings
from upstream_elp.experiment.checkpoint import Remembered


def absent(place: str) -> bool:
    """Whether a place of a backbone is a path, and nothing is there."""
    return not is_remote(place) and not Path(place).exists()


def takes_path(upstream: str) -> bool:
    """Whether ``-k`` of an upstream is a path if it is no URL; for others it may be a name."""
    return upstream.endswith("_local") or (upstream.startswith("elp_") and not upstream.startswith("elp_hf_"))


def at_home(args: Namespace, path: str | Path, *, backbone: str | None = None) -> Namespace:
    """Flags of a checkpoint, with the folder that it lies in as experiment folder.

    The folder that it was saved in may have been moved since, and was perhaps named relative to another directory. The
    same holds for the backbone: where it is not at its place, another is taken. No backbone stands in for an adapter
    folder.

    Args:
        args: the flags.
        path: the checkpoint.
        backbone: where the backbone is if it is not at its place; ``$ELP_BACKBONE`` by default.
    """
    changed = {"expdir": str(Path(path).parent)}
    if (other := backbone or settings.current().backbone) and gone(args) and not adapted(args):
        changed["upstream_ckpt"] = other
    return Namespace(**{**vars(args), **changed})


def remembered(args: Namespace, *, chosen: Settings) -> dict[str, str]:
    """The settings of a checkpoint's run that this one does not choose, as far as they still name what is there.

    Args:
        args: the checkpoint's flags.
        chosen: what this run has chosen, which counts.
    """
    had = Remembered.of(args)
    places = {"data": had.data, "backbone": had.backbone}
    return {name: place for name, place in places.items() if place and not getattr(chosen, name) and not absent(place)}


def where_it_went(args: Namespace) -> str:
    """The end of a sentence about a checkpoint whose ``-k`` is gone."""
    if adapted(args):
        return (
            f"was trained with the adapter folder -k {args.upstream_ckpt}, which is not there (any more): put it back, "
            "or tell `elp run` with -o args.upstream_ckpt=FOLDER where it is now"
        )
    return (
        f"was trained with -k {args.upstream_ckpt}, which is not there (any more, or seen from this folder): put it "
        "back, or say with --backbone where the backbone is now"
    )


def adapted(args: Namespace) -> bool:
    """Whether ``-k`` named a trained adapter folder, as far as the checkpoint says."""
    return Remembered.of(args).adapter_folder


def gone(args: Namespace) -> bool:
    """Whether ``-k`` names a file or folder that is not there, seen from here."""
    place = getattr(args, "upstream_ckpt", None)
    return bool(place) and takes_path(args.upstream) and absent(place)
