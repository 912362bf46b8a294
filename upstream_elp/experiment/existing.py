"""An existing experiment folder: what S3PRL saved in it, and whether a run may use it."""

import dataclasses
import shlex
import tempfile
from argparse import Namespace
from pathlib import Path

import yaml

from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.experiment.checkpoint import MODELS, Checkpoint, read_checkpoint
from upstream_elp.host import flags
from upstream_elp.host.checkpoints import states

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


def saved(path: Path) -> Checkpoint:
    """A checkpoint with all of S3PRL's flags; its tensors stay on disk.

    Raises:
        ElpError: if it is not a checkpoint of S3PRL's runner.
    """
    found = read_checkpoint(path, hint=_instead(path))
    if found is None or not isinstance(found.config, dict) or not _names_its_models(found.args):
        raise ElpError(f"{path} is not a checkpoint of run_downstream: its Args or Config are missing or incomplete")
    # S3PRL fills in missing flags too
    return dataclasses.replace(found, args=Namespace(**{**flags.defaults(), **vars(found.args)}))


def _names_its_models(args: object) -> bool:
    names = [getattr(args, name, None) for name in ("upstream", "downstream")]
    return isinstance(args, Namespace) and all(isinstance(name, str) for name in names)


def _instead(path: Path) -> str:
    """What to do about a checkpoint that cannot be read."""
    kept = states(path.parent)
    if path not in kept:
        return "name a states-*.ckpt"
    earlier = kept[: kept.index(path)]
    return (
        f"remove it, and -a resumes from {earlier[-1].name}" if earlier else "there is no earlier one, so start again"
    )


def to_go_on(flag: str, path: Path, checkpoint: Checkpoint, args: Namespace, *, stock_loop: bool) -> None:
    """Refuse a checkpoint from which training cannot resume, or whose folder contains later ones.

    Later checkpoints would be mistaken for this run's: ``-a`` chooses the latest, and ``max_keep`` deletes the
    earliest.

    Args:
        flag: ``-a`` or ``-e``, for messages.
        path: the checkpoint's file.
        checkpoint: its content.
        args: its flags, with overrides applied.
        stock_loop: whether S3PRL's own loop is to train, whose optimizer has other groups.

    Raises:
        ElpError: naming the checkpoint or the later ones.
    """
    if checkpoint.optimizer is None:
        raise ElpError(
            f"{flag}: {path} has no optimizer state, so training cannot resume from it; name a states-*.ckpt, or start "
            "a new experiment from its weights with -i"
        )
    ours = checkpoint.position is not None
    if ours and stock_loop:
        raise ElpError(f"{flag}: {path} was not trained with --stock-loop; remove that flag")
    if not ours and not stock_loop and args.upstream.startswith("elp_") and checkpoint.trains_upstream:
        raise ElpError(f"{flag}: {path} was trained by S3PRL's own loop; resume with --stock-loop")
    folder, step = Path(args.expdir), checkpoint.step or 0
    later = [file.name for file in states(folder) if int(file.stem.split("-")[-1]) > step]
    if later:
        raise ElpError(
            f"{flag}: {path} is from step {step}, but {folder} contains later checkpoints ({', '.join(later[:3])}), "
            "which would be mixed with those of this run; remove them, or resume in another folder with -o "
            "args.expdir=DIR"
        )


def loadable(flag: str, path: Path) -> None:
    """Refuse a checkpoint without weights, from which S3PRL would silently load nothing.

    Raises:
        ElpError: if it is not a checkpoint of S3PRL's runner.
    """
    found = read_checkpoint(path, hint=f"name a states-*.ckpt with {flag}")
    models = (None,) if found is None else (found.upstream, found.featurizer, found.head)
    if not any(isinstance(tensors, dict) for tensors in models):
        raise ElpError(
            f"{flag} {path} is not a checkpoint of run_downstream, which has {', '.join(MODELS)}; name a states-*.ckpt"
        )


def starter(ranks: int) -> str:
    """The command that starts a run with this number of processes."""
    return f"torchrun --nproc_per_node {ranks} -m upstream_elp.run" if ranks > 1 else "elp run"


def going_on(folder: Path, ranks: int) -> str:
    """The shell command that resumes an experiment."""
    place = shlex.quote(str(folder))
    return f"`{starter(ranks)} -m train -a {f'--expdir={place}' if str(folder).startswith('-') else f'-p {place}'}`"


def same_ranks(flag: str, path: Path, had: int, now: int) -> None:
    """Refuse to resume with another number of ranks, where S3PRL fails with a bare assertion.

    Args:
        flag: ``-a`` or ``-e``, for messages.
        path: the checkpoint.
        had: the number of ranks that trained it.
        now: the number of ranks of this run.

    Raises:
        ElpError: naming both numbers.
    """
    if now != had:
        start = starter(had) + ("" if had > 1 else ", without torchrun")
        trained = counted(had, "process", "processes")
        raise ElpError(f"{flag}: {path} was trained by {trained}, not by {now}; resume with {start}")


def experiment_folder(args: Namespace) -> Path:
    """The experiment folder, created if needed.

    Raises:
        ElpError: if it is not named or not writable.
    """
    if args.expdir is None and args.expname is None:
        raise ElpError("the experiment folder is missing; pass -p DIR, or -n NAME for result/downstream/NAME")
    path = Path(args.expdir or f"result/downstream/{args.expname}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ElpError(
            f"-p {path} is not a writable folder ({error.strerror}); choose another one (with -o args.expdir=DIR when "
            "resuming)"
        ) from error
    return path


def other_experiment(path: Path, args: Namespace, content: dict) -> str | None:
    """Refuse to train into a folder with results, unless they belong to this experiment and ``-a`` is given.

    Args:
        path: the experiment folder.
        args: the flags of this run, with overrides applied.
        content: the config of this run, with overrides applied.

    Returns:
        None for a folder without results; otherwise a note that the same experiment starts over, as ``-a`` is given but
        there is no ``states-N.ckpt`` to resume from.

    Raises:
        ElpError: if the folder has results that this run would overwrite or add to.
    """
    results = sorted(file.name for pattern in ("*.ckpt", "metrics.jsonl") for file in path.glob(pattern))
    if not results:
        return None
    old_args, old_config = _latest(path, "args") or {}, _latest(path, "config")
    differ = [key for key in _SAME if old_args and plain(old_args.get(key)) != plain(getattr(args, key, None))]
    if old_config is not None:
        differ += [f"config.{key}" for key in differences(old_config, content)]
    if differ:
        raise ElpError(
            f"-p {path} already contains another experiment (-u {old_args.get('upstream')} "
            f"-d {old_args.get('downstream')}; different here: {', '.join(differ[:5])}); use another folder with -p, "
            "or only -a to resume that one"
        )
    if not args.auto_resume:
        raise ElpError(
            f"-p {path} already contains results ({', '.join(results[:3])}), which this run would overwrite or mix "
            "with its own; pass -a to resume, or another folder with -p"
        )
    return f"{path} contains no states-N.ckpt to resume from, so this experiment starts over"


def _latest(path: Path, stem: str) -> dict | None:
    files = sorted(path.glob(f"{stem}_????-??-??-??-??-??.yaml"))
    for file in reversed(files):
        try:
            content = yaml.safe_load(texts.read(file)[0])
        except yaml.YAMLError:
            continue
        if isinstance(content, dict) and content.get("mode", "train") == "train":
            return content
    return None


def plain(value: object) -> object:
    """A path in its absolute form; anything else unchanged."""
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).exists() else value


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """The dotted keys in which two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new}, key=str)
        return [path for key in keys for path in differences(old.get(key), new.get(key), f"{prefix}.{key}")]
    return [] if old == new else [prefix.lstrip(".")]
