"""Refuse flags that contradict a checkpoint, as S3PRL silently uses the checkpoint's."""

from argparse import Namespace
from collections.abc import Container
from pathlib import Path

from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import existing, moved
from upstream_elp.host.override import override
from upstream_elp.launch import arguments, recipes
from upstream_elp.launch.chosen import chosen_adapter

_SHORT = {
    "upstream": "-u",
    "downstream": "-d",
    "upstream_ckpt": "-k",
    "upstream_model_config": "-g",
    "upstream_feature_selection": "-s",
    "upstream_layer_selection": "-l",
    "downstream_variant": "-v",
    "upstream_trainable": "-f",
    "seed": "--seed",
    "upstream_feature_normalize": "--upstream_feature_normalize",
}
_SET_BY_TASKS = {"downstream_expert.datarc.frame_shift"}
"""Config keys that a stock task sets while it is built (diarization/expert.py:68)."""


def same_flags(flag: str, given: Namespace, old: Namespace, path: Path, *, overridden: Container[str] = ()) -> None:
    """Refuse a flag on the command line that differs from the checkpoint's.

    Args:
        flag: ``-a`` or ``-e``, for messages.
        given: the flags on the command line, without any defaults.
        old: the checkpoint's flags.
        path: the checkpoint.
        overridden: arguments that this run's ``-o`` sets anyway.

    Raises:
        ElpError: naming the flag and both values.
    """
    for key, short in _SHORT.items():
        if key not in given or key in overridden:
            continue
        if key == "upstream_ckpt" and moved.gone(old):
            raise ElpError(f"{flag}: {path} {moved.where_it_went(old)}, and remove -k")
        wanted, had = getattr(given, key), getattr(old, key, None)
        if _same(key, wanted, had, adapters=str(getattr(old, "upstream", "")).startswith("elp_")):
            continue
        there = f"without {short}" if had is None or had is False else f"with {short} {had}"
        here = "with it" if wanted is True else wanted
        ways = [f"remove {short}", "use another experiment folder with -p"]
        if key != "downstream_variant":  # the fold that the checkpoint was trained on
            ways.append(f"insist with -o args.{key}={wanted}")
        *ways, last = ways
        raise ElpError(f"{flag}: {path} was trained {there}, not {here}; {', '.join(ways)}, or {last}")


def same_folder(flag: str, given: Namespace, path: Path, *, overridden: Container[str] = ()) -> None:
    """Refuse a ``-p`` other than the checkpoint's folder, where a resumed run saves.

    Raises:
        ElpError: naming both folders.
    """
    wanted = getattr(given, "expdir", None)
    if wanted is None or "expdir" in overridden or Path(wanted).resolve() == path.resolve().parent:
        return
    raise ElpError(
        f"{flag}: {path} is not in -p {wanted}, but a resumed run saves next to its checkpoint; remove -p, or insist "
        f"on that folder with -o args.expdir={wanted}"
    )


def same_config(flag: str, args: Namespace, had: Namespace, old: dict, path: Path) -> None:
    """Refuse a ``-c`` whose content differs from the checkpoint's config; this run's ``-o`` counts for both.

    Args:
        flag: ``-a`` or ``-e``, for messages.
        args: this run's flags.
        had: the checkpoint's flags, which choose the adapter for a recipe's ``methods``.
        old: the checkpoint's config.
        path: the checkpoint.

    Raises:
        ElpError: naming the first keys that differ, with both values.
    """
    file = arguments.recipe("-c", args.config)
    new = recipes.read(file)
    if "methods" in new:
        new = recipes.for_adapter(new, chosen_adapter(had), path=file)
    for content in (new, old):
        if args.override and args.override.lower() != "none":
            override(args.override, Namespace(**vars(args)), content)
    differ = [key for key in existing.differences(old, new) if key not in _SET_BY_TASKS]
    if differ:
        listed = ", ".join(f"{key} {_at(old, key)!r} there, {_at(new, key)!r} in the file" for key in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ElpError(
            f"{flag}: {path} was trained with another config than -c {args.config} ({listed}{more}); remove -c, use "
            "another experiment folder with -p, or change single keys with -o config.KEY=VALUE"
        )


def _same(key: str, wanted: object, had: object, *, adapters: bool) -> bool:
    if existing.plain(wanted) == existing.plain(had):
        return True
    if key != "upstream_model_config" or not adapters:
        return False
    from upstream_elp.adapters.config import load_config

    try:
        return load_config(wanted).to_dict() == load_config(had).to_dict()
    except ElpError:
        return False


def _at(content: dict, path: str) -> object:
    value: object = content
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
