"""Questions to the user's flags that can be answered before anything heavy is loaded; each answer is one sentence."""

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import torch

from downstream_heads import registry
from upstream_elp.adapters.config import preset_names
from upstream_elp.backbones.architecture import other_entry
from upstream_elp.backbones.family import HUB_PREFIX
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean
from upstream_elp.experiment import moved
from upstream_elp.host import checkpoints, places
from upstream_elp.host.override import override
from upstream_elp.launch import recipes

_NEED_CKPT = ("_local", "_url", "_custom", "_gdriveid")


def name(kind: str, value: str | None, valid: Iterable[str]) -> None:
    """Refuse a name that is not in ``valid``, with close matches.

    Raises:
        ElpError: listing close matches, otherwise our names and how to see all.
    """
    valid = sorted(valid)
    if value in valid:
        return
    if value is None:
        raise ElpError(f"{kind} is missing; give for example one of {', '.join(_ours(valid)) or ', '.join(valid)}")
    other = other_entry(value) if kind == "-u" and value.startswith("elp_") else None
    if other is not None and "through" not in other:
        raise ElpError(f"-u {value} is not supported: {other['why']} (see `elp backbones`)")
    hint = did_you_mean(value, valid, most=5, cutoff=0.5) or f"ours are {', '.join(_ours(valid))}"
    raise ElpError(f"{kind} {value}: no such name; {hint} (`elp doctor --names` lists all)")


def file(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing file.

    Raises:
        ElpError: if it is missing.
    """
    if not Path(path).is_file():
        raise ElpError(f"{flag} {path}: {'a folder, and no file' if Path(path).is_dir() else 'no such file'}")
    return Path(path)


def folder(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing folder.

    Raises:
        ElpError: if it is missing.
    """
    if not Path(path).is_dir():
        raise ElpError(f"{flag} {path}: no such folder")
    return Path(path)


def machine(args: Namespace) -> None:
    """Check what ``-o`` may have set otherwise than a flag could.

    Raises:
        ElpError: a seed that numpy does not take, or a device that is not there.
    """
    if isinstance(args.seed, bool) or not isinstance(args.seed, int) or not 0 <= args.seed < 2**32:
        raise ElpError(f"--seed {args.seed}: it must be a whole number from 0 to 4294967295")
    device(args.device)


def device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ElpError: no such device, or none on this machine.
    """
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ElpError(f"--device {name}: no such device; choose cpu, cuda or cuda:N") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ElpError(f"--device {name}: this machine has no CUDA device; use --device cpu")
    return found


def location(flag: str, place: str) -> None:
    """Refuse a place of a backbone that is no URL, no name on Hugging Face's hub, and not there.

    Raises:
        ElpError: if it is missing.
    """
    if moved.absent(place):
        raise ElpError(f"{flag} {place}: no such file or folder (on Hugging Face's hub: {HUB_PREFIX}ORGANISATION/NAME)")


def variant(args: Namespace) -> None:
    """Refuse ``-v`` where it means nothing.

    Raises:
        ElpError: for those of our tasks that have no variants.
    """
    tasks = registry.tasks()
    if args.downstream_variant and args.downstream in tasks and not tasks[args.downstream].variants:
        known = [
            f"{task.name} has ({task.variants[0]} … {task.variants[-1]})" for task in tasks.values() if task.variants
        ]
        raise ElpError(f"-v {args.downstream_variant}: {args.downstream} has no variants, only {', '.join(known)}")


def upstream_files(args: Namespace) -> None:
    """Check ``-k`` and ``-g`` against what the upstream expects.

    Raises:
        ElpError: if a checkpoint or config file is needed and missing.
    """
    upstream, ckpt = args.upstream, args.upstream_ckpt
    if upstream.endswith(_NEED_CKPT) and not ckpt:
        raise ElpError(f"-u {upstream} needs -k, the checkpoint of the backbone (a path or URL)")
    if ckpt and moved.takes_path(upstream):
        location("-k", ckpt)
    if args.upstream_model_config and not upstream.startswith("elp_"):
        if not Path(args.upstream_model_config).is_file() and args.upstream_model_config in preset_names():
            ours = "elp_local" if upstream.endswith(_NEED_CKPT) else f"elp_{upstream}"
            raise ElpError(
                f"-g {args.upstream_model_config} is a preset of adapters, but -u {upstream} is S3PRL's plain "
                f"upstream; give -u {ours}"
            )
        file("-g", args.upstream_model_config)


def config(args: Namespace, script: Path | None) -> Path:
    """The task config: ``-c`` (a file or the name of a recipe), or the one that comes with the task.

    Raises:
        ElpError: if ``-c`` names neither, or another task's recipe; or the task is S3PRL's, which ships no config.
    """
    if args.config:
        path = recipe("-c", args.config)
        _same_task(args, path)
        return path
    ours = registry.tasks()
    roots = [Path(), *([script.parent] if script else []), places.s3prl_folder()]
    stock = [root / "downstream" / args.downstream / "config.yaml" for root in roots]
    for path in [ours[args.downstream].config] if args.downstream in ours else stock:
        if path.is_file():
            return path
    raise ElpError(
        f"-c is missing: s3prl's package ships no config for its task {args.downstream}; copy "
        f"s3prl/downstream/{args.downstream}/config.yaml from its repository, set the data paths and give it with -c"
    )


def _same_task(args: Namespace, path: Path) -> None:
    """Refuse a recipe of another task: some of ours have no key that the task lacks, and would train on."""
    named = registry.whole_name(args.config)
    if recipes.names().get(named) != path:
        return
    task = named if named in registry.names() else registry.whole_name(named.split("_")[0])
    if task != args.downstream:
        raise ElpError(f"-c {args.config} is a recipe of -d {task}, not of -d {args.downstream}")


def recipe(flag: str, name: str) -> Path:
    """The path of a task config that is named by its path or, for ours, by its name.

    Raises:
        ElpError: if there is none.
    """
    path, known = Path(name), recipes.names()
    if not path.is_file() and (named := registry.whole_name(name)) in known:
        return known[named]
    if not path.is_file():
        hint = did_you_mean(name, known)
        raise ElpError(f"{flag} {name}: no such file or recipe{f'; {hint}' if hint else ''}")
    return path


def checkpoint(flag: str, path: str) -> Path:
    """The checkpoint file that a flag names; of a folder the latest ``states-N.ckpt``, as S3PRL chooses it.

    Raises:
        ElpError: if there is none.
    """
    if not Path(path).is_dir() or flag == "-i":
        return file(flag, path)
    found = checkpoints.states(Path(path))
    if not found:
        others = ", ".join(sorted(ckpt.name for ckpt in Path(path).glob("*.ckpt")))
        raise ElpError(
            f"{flag} {path}: the folder holds no states-*.ckpt; "
            + (f"give one of {others}" if others else "give a checkpoint file")
        )
    return found[-1]


def overridden(assignments: str | None, args: Namespace, content: dict) -> None:
    """Apply ``-o`` to copies that only the checks see.

    Raises:
        ElpError: if an assignment is wrong.
    """
    if assignments and assignments.lower() != "none":
        override(assignments, args, content)


def _ours(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("elp_")]
