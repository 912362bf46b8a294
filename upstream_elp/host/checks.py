"""Questions to the user's flags that can be answered before anything heavy is loaded; each answer is one sentence."""

import difflib
import os
import pickle
import tempfile
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml

from upstream_elp.errors import ElpError
from upstream_elp.host import places
from upstream_elp.host.override import override

_NEED_CKPT = ("_local", "_url", "_custom", "_gdriveid")
_SAME = (
    "upstream",
    "downstream",
    "downstream_variant",
    "upstream_ckpt",
    "upstream_model_config",
    "upstream_trainable",
    "upstream_feature_selection",
    "upstream_layer_selection",
    "seed",
)


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
    close = difflib.get_close_matches(value, valid, n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"ours are {', '.join(_ours(valid))}"
    raise ElpError(f"{kind} {value}: no such name; {hint} (`elp doctor --names` lists all)")


def file(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing file.

    Raises:
        ElpError: if it is missing.
    """
    if not Path(path).is_file():
        raise ElpError(f"{flag} {path}: no such file")
    return Path(path)


def folder(flag: str, path: str | os.PathLike) -> Path:
    """The path of an existing folder.

    Raises:
        ElpError: if it is missing.
    """
    if not Path(path).is_dir():
        raise ElpError(f"{flag} {path}: no such folder")
    return Path(path)


def upstream_files(args: Namespace) -> None:
    """Check ``-k`` and ``-g`` against what the upstream expects.

    Raises:
        ElpError: if a checkpoint or config file is needed and missing.
    """
    upstream, ckpt = args.upstream, args.upstream_ckpt
    if upstream.endswith(_NEED_CKPT) and not ckpt:
        raise ElpError(f"-u {upstream} needs -k, the checkpoint of the backbone (a path or URL)")
    local = upstream.endswith("_local") or (upstream.startswith("elp_") and not upstream.startswith("elp_hf_"))
    if ckpt and local and "://" not in ckpt and not Path(ckpt).exists():
        raise ElpError(f"-k {ckpt}: no such file or folder")
    if args.upstream_model_config and not upstream.startswith("elp_"):
        file("-g", args.upstream_model_config)


def config(args: Namespace, script: Path | None) -> Path:
    """The task config: ``-c``, or the one that comes with the task.

    Raises:
        ElpError: if ``-c`` names no file, or the task is S3PRL's and its wheel ships no config.
    """
    if args.config:
        return file("-c", args.config)
    ours = places.our_tasks_folder() / args.downstream / "config.yaml"
    roots = [Path(), *([script.parent] if script else []), places.s3prl_folder()]
    stock = [root / "downstream" / args.downstream / "config.yaml" for root in roots]
    for path in [ours] if args.downstream in places.our_tasks() else stock:
        if path.is_file():
            return path
    raise ElpError(
        f"-c is missing: s3prl's package ships no config for its task {args.downstream}; copy "
        f"s3prl/downstream/{args.downstream}/config.yaml from its repository, set the data paths and give it with -c"
    )


def read_config(path: Path) -> dict:
    """Read a task config.

    Raises:
        ElpError: if it is no YAML mapping with the blocks that S3PRL's runner reads.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ElpError(f"-c {path}: not readable as YAML ({' '.join(str(error).split())})") from error
    blocks = content if isinstance(content, dict) else {}
    missing = [key for key in ("runner", "optimizer", "downstream_expert") if not isinstance(blocks.get(key), dict)]
    if missing:
        raise ElpError(
            f"-c {path}: the block {missing[0]!r} is missing; a task config has runner, optimizer, "
            "downstream_expert and optionally scheduler and specaug"
        )
    return content


def checkpoint(flag: str, path: str) -> Path:
    """The checkpoint file that a flag names; of a folder the latest ``states-N.ckpt``, as S3PRL chooses it.

    Raises:
        ElpError: if there is none.
    """
    if not Path(path).is_dir() or flag == "-i":
        return file(flag, path)
    found = states(Path(path))
    if not found:
        others = ", ".join(sorted(ckpt.name for ckpt in Path(path).glob("*.ckpt")))
        raise ElpError(
            f"{flag} {path}: the folder holds no states-*.ckpt; "
            + (f"give one of {others}" if others else "give a checkpoint file")
        )
    return found[-1]


def states(folder: Path) -> list[Path]:
    """The ``states-N.ckpt`` of a folder by rising step."""
    found = [path for path in folder.glob("states-*.ckpt") if path.stem.split("-")[-1].isdigit()]
    return sorted(found, key=lambda path: int(path.stem.split("-")[-1]))


def saved(path: Path) -> tuple[Namespace, dict]:
    """The flags and the config in a checkpoint; its tensors stay on disk.

    Raises:
        ElpError: if it is no checkpoint of S3PRL's runner.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return content["Args"], content["Config"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ElpError(
            f"{path}: not a readable checkpoint of run_downstream ({type(error).__name__}); "
            "it may be cut off, take an earlier states-*.ckpt"
        ) from error


def same_names(flag: str, given: Namespace, old: Namespace, path: Path) -> None:
    """Refuse ``-u`` or ``-d`` beside a checkpoint of another experiment, where S3PRL would ignore the flag.

    Raises:
        ElpError: naming both.
    """
    for short, key in (("-u", "upstream"), ("-d", "downstream")):
        wanted, had = getattr(given, key), getattr(old, key, None)
        if wanted is not None and wanted != had:
            raise ElpError(
                f"{flag}: {path} was trained with {short} {had}, not {wanted}; leave {short} out, "
                "or use another experiment folder"
            )


def experiment_folder(args: Namespace) -> Path:
    """The experiment folder, made if needed.

    Raises:
        ElpError: if it is not named or not writable.
    """
    if args.expdir is None and args.expname is None:
        raise ElpError("the experiment folder is missing; give -p DIR, or -n NAME for result/downstream/NAME")
    path = Path(args.expdir or f"result/downstream/{args.expname}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ElpError(f"-p {path}: not a writable folder ({error.strerror})") from error
    return path


def other_experiment(path: Path, args: Namespace, content: dict) -> str | None:
    """Compare with what the folder holds.

    Args:
        path: the experiment folder.
        args: the flags of this run, overrides applied.
        content: the config of this run, overrides applied.

    Returns:
        None for a folder without results, otherwise a note that the same experiment starts over.

    Raises:
        ElpError: if it holds the results of another experiment.
    """
    results = [*path.glob("*.ckpt"), *path.glob("metrics.jsonl")]
    old_args, old_config = _latest(path, "args"), _latest(path, "config")
    if not results or old_args is None:
        return None
    differ = [key for key in _SAME if _plain(old_args.get(key)) != _plain(getattr(args, key, None))]
    if old_config is not None:
        differ += [f"config.{key}" for key in _differences(old_config, content)]
    if differ:
        raise ElpError(
            f"-p {path} already holds another experiment (-u {old_args.get('upstream')} "
            f"-d {old_args.get('downstream')}; different here: {', '.join(differ[:5])}); use another folder, "
            "or -a to go on with that one"
        )
    return f"{path} holds this experiment already; it starts over (-a would go on)"


def overridden(args: Namespace, content: dict) -> None:
    """Apply ``-o`` to copies that only the checks see.

    Raises:
        ElpError: if an assignment is wrong.
    """
    if args.override and args.override.lower() != "none":
        override(args.override, args, content)


def _ours(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("elp_")]


def _latest(path: Path, stem: str) -> dict | None:
    files = sorted(path.glob(f"{stem}_????-??-??-??-??-??.yaml"))
    for file in reversed(files):
        try:
            content = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, OSError):
            continue
        if isinstance(content, dict) and content.get("mode", "train") == "train":
            return content
    return None


def _plain(value: object) -> object:
    """A path in one spelling, anything else as it is."""
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).exists() else value


def _differences(old: object, new: object, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new}, key=str)
        return [path for key in keys for path in _differences(old.get(key), new.get(key), f"{prefix}.{key}")]
    return [] if old == new else [prefix.lstrip(".")]
