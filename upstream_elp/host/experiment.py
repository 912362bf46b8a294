"""The experiment folder: what S3PRL saved in it, and whether a run may use it."""

import os
import pickle
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
import yaml

from upstream_elp.errors import ElpError

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


def states(folder: Path) -> list[Path]:
    """The ``states-N.ckpt`` of a folder by rising step."""
    found = [path for path in folder.glob("states-*.ckpt") if path.stem.split("-")[-1].isdigit()]
    return sorted(found, key=lambda path: int(path.stem.split("-")[-1]))


def saved(path: Path) -> tuple[Namespace, dict, int]:
    """The flags, the config and the number of ranks in a checkpoint; its tensors stay on disk.

    Raises:
        ElpError: if it is no checkpoint of S3PRL's runner.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return content["Args"], content["Config"], content.get("WorldSize", 1)
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


def same_ranks(path: Path, had: int) -> None:
    """Refuse to train on with another number of ranks, which S3PRL asserts without a word.

    Raises:
        ElpError: naming both numbers.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks != had:
        start = f"torchrun --nproc_per_node {had} -m upstream_elp.run" if had > 1 else "elp run, without torchrun"
        raise ElpError(f"-e {path}: trained by {had} processes, not by {ranks}; go on with {start}")


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
