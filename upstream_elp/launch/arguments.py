"""Checks of the user's flags that need nothing heavy; each failure is reported in one sentence."""

import importlib.util
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
from upstream_elp.corpora.tables import is_table
from upstream_elp.experiment import moved
from upstream_elp.host import checkpoints, places
from upstream_elp.host.override import override
from upstream_elp.launch import recipes

_NEEDED = {
    "diarization": {"h5py": "h5py"},
    "quesst14_dtw": {"dtw": "dtw-python", "lxml": "lxml"},
}
"""Modules that S3PRL's own tasks import, and the packages that contain them, unless s3prl installs them."""
UNTRAINED = ("quesst14_dtw",)
"""Tasks of S3PRL's that only compare features."""
_NEED_CKPT = ("_local", "_url", "_custom", "_gdriveid")


def name(kind: str, value: str | None, valid: Iterable[str]) -> None:
    """Refuse a name that is not in ``valid``.

    Raises:
        ElpError: listing close matches, or else our names and how to see all.
    """
    valid = sorted(valid)
    if value in valid:
        return
    if value is None:
        raise ElpError(f"{kind} is missing; choose for example one of {', '.join(_ours(valid)) or ', '.join(valid)}")
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
        raise ElpError(f"{flag} {path}: {'a folder, not a file' if Path(path).is_dir() else 'no such file'}")
    return Path(path)


def folder(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing folder.

    Raises:
        ElpError: if it is missing.
    """
    if not Path(path).is_dir():
        raise ElpError(f"{flag} {path}: no such folder")
    return Path(path)


def data(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing folder of corpora, or of an existing manifest of own data.

    Raises:
        ElpError: if it is neither.
    """
    if Path(path).is_file() and not is_table(Path(path)):
        raise ElpError(f"{flag} must be a folder or a manifest (a .csv or .jsonl file), but is the file {path}")
    return Path(path) if Path(path).is_file() else folder(flag, path)


def machine(args: Namespace) -> None:
    """Check the seed and the device, which ``-o`` can set to values that no flag would accept.

    Raises:
        ElpError: a seed that numpy does not accept, or a device that does not exist.
    """
    if isinstance(args.seed, bool) or not isinstance(args.seed, int) or not 0 <= args.seed < 2**32:
        raise ElpError(f"--seed must be a whole number from 0 to 4294967295, but is {args.seed}")
    device(args.device)


def device(name: str) -> torch.device:
    """The device with this name.

    Raises:
        ElpError: no such device, or not on this machine.
    """
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ElpError(f"--device {name}: no such device; choose cpu, cuda or cuda:N") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ElpError(f"--device {name}: this machine has no CUDA device; use --device cpu")
    return found


def location(flag: str, place: str) -> None:
    """Refuse a missing backbone: neither an existing path, nor a URL, nor a name on the Hugging Face Hub.

    Raises:
        ElpError: if it is missing.
    """
    if moved.absent(place):
        raise ElpError(
            f"{flag} {place}: no such file or folder (on the Hugging Face Hub: {HUB_PREFIX}ORGANISATION/NAME)"
        )


def variant(args: Namespace) -> None:
    """Refuse ``-v`` for a task without variants.

    Raises:
        ElpError: if the task is ours and has no variants.
    """
    tasks = registry.tasks()
    if args.downstream_variant and args.downstream in tasks and not tasks[args.downstream].variants:
        known = [
            f"{task.name} has them ({task.variants[0]} … {task.variants[-1]})"
            for task in tasks.values()
            if task.variants
        ]
        raise ElpError(f"-v {args.downstream_variant}: {args.downstream} has no variants; {', '.join(known)}")


def upstream_files(args: Namespace) -> None:
    """Check ``-k`` and ``-g`` against what the upstream expects.

    Raises:
        ElpError: if a checkpoint or config file is needed and missing.
    """
    upstream, ckpt = args.upstream, args.upstream_ckpt
    if upstream.endswith(_NEED_CKPT) and not ckpt:
        raise ElpError(f"-u {upstream} needs a backbone; pass its checkpoint (path or URL) with -k")
    if ckpt and moved.takes_path(upstream):
        location("-k", ckpt)
    if args.upstream_model_config and not upstream.startswith("elp_"):
        if not Path(args.upstream_model_config).is_file() and args.upstream_model_config in preset_names():
            ours = "elp_local" if upstream.endswith(_NEED_CKPT) else f"elp_{upstream}"
            raise ElpError(
                f"-g {args.upstream_model_config} is an adapter preset, but -u {upstream} is S3PRL's plain upstream; "
                f"use -u {ours}"
            )
        file("-g", args.upstream_model_config)


def config(args: Namespace, script: Path | None) -> Path:
    """The task config: ``-c`` (a file or the name of a recipe), or the task's own.

    Raises:
        ElpError: if ``-c`` is neither or another task's recipe, or if the task is S3PRL's and has no config.
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
        f"-c is missing: the s3prl package ships no config for its task {args.downstream}; copy "
        f"s3prl/downstream/{args.downstream}/config.yaml from its repository, set the data paths and pass it with -c"
    )


def _same_task(args: Namespace, path: Path) -> None:
    """Refuse another task's recipe: some have only keys that this task has too, and would train silently."""
    named = registry.whole_name(args.config)
    if recipes.names().get(named) != path:
        return
    task = named if named in registry.names() else registry.whole_name(named.split("_")[0])
    if task != args.downstream:
        raise ElpError(f"-c {args.config} is a recipe for -d {task}, not for -d {args.downstream}")


def stock_task(name: str) -> None:
    """Refuse one of S3PRL's own tasks if modules that it imports are missing.

    Raises:
        ElpError: names what is missing, and where to get it.
    """
    if name == "ctc" and not (places.s3prl_folder() / "downstream" / "ctc" / "corpus").is_dir():
        raise ElpError(
            "-d ctc needs s3prl/downstream/ctc/corpus, which the s3prl package lacks; clone S3PRL's repository, and "
            "put PYTHONPATH=CLONE in front of the command"
        )
    for module, package in _NEEDED.get(name, {}).items():
        if importlib.util.find_spec(module) is None:
            raise ElpError(
                f"-d {name} needs the package {package}, which s3prl does not install; pip install {package}"
            )


def trained(args: Namespace) -> None:
    """Refuse an evaluation without a checkpoint, except by a task that trains nothing.

    Raises:
        ElpError: if a checkpoint is needed.
    """
    given = args.mode == "train" or args.past_exp or args.init_ckpt
    if not given and not (args.mode == "evaluate" and args.downstream in UNTRAINED):
        raise ElpError(
            f"-m {args.mode} needs a trained checkpoint; pass it with -e, or with -i together with -u, -d and -c"
        )


def recipe(flag: str, name: str) -> Path:
    """The path of a task config, given as a path or as the name of one of our recipes.

    Raises:
        ElpError: if it does not exist.
    """
    path, known = Path(name), recipes.names()
    if not path.is_file() and (named := registry.whole_name(name)) in known:
        return known[named]
    if not path.is_file():
        hint = did_you_mean(name, known)
        raise ElpError(f"{flag} {name}: no such file or recipe{f'; {hint}' if hint else ''}")
    return path


def checkpoint(flag: str, path: str) -> Path:
    """The checkpoint that a flag names; in a folder the latest ``states-N.ckpt``, which S3PRL chooses too.

    Raises:
        ElpError: if there is none.
    """
    if not Path(path).is_dir() or flag == "-i":
        return file(flag, path)
    found = checkpoints.states(Path(path))
    if not found:
        others = ", ".join(sorted(ckpt.name for ckpt in Path(path).glob("*.ckpt")))
        raise ElpError(
            f"{flag} {path}: the folder contains no states-*.ckpt; "
            + (f"name one of {others}" if others else "name a checkpoint file")
        )
    return found[-1]


def overridden(assignments: str | None, args: Namespace, content: dict) -> None:
    """Apply ``-o`` to copies that only the checks use.

    Raises:
        ElpError: if an assignment is invalid.
    """
    if assignments and assignments.lower() != "none":
        override(assignments, args, content)


def _ours(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("elp_")]
