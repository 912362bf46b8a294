"""Turn the user's flags into S3PRL's: refuse what cannot work and add what follows from the machine."""

import copy
import dataclasses
import importlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from downstream_heads import registry
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.ranks import ranks
from upstream_elp.base.settings import Settings
from upstream_elp.experiment import existing, moved
from upstream_elp.host import checkpoints, flags, places
from upstream_elp.host.override import overridden as overridden_by
from upstream_elp.launch import arguments, blocks, recipes, resume
from upstream_elp.launch.chosen import ChosenAdapter, chosen_adapter
from upstream_elp.launch.registry import register
from upstream_elp.training import duration

_CHOOSE_ADAPTER = ("upstream", "upstream_ckpt", "upstream_model_config")
"""The flags that choose the adapter."""


@dataclass
class Plan:
    """A run as planned.

    Args:
        args: S3PRL's flags as understood here.
        argv: S3PRL's flags as S3PRL gets them.
        own: our own flags.
        settings: settings other than S3PRL's flags.
        script: the clone's ``run_downstream.py``, or None for the installed s3prl.
        notes: decisions made for the user, to be printed.
        given: the flags on the command line, without any defaults.
        final: the flags that the run will have, including a checkpoint's and ``-o``.
        config: the task config that the run will have.
        fresh: whether this is a new experiment.
        adapter: the adapter of a new experiment; a checkpoint contains its own.
    """

    args: Namespace
    argv: list[str]
    own: Namespace
    settings: Settings
    script: Path | None = None
    notes: list[str] = field(default_factory=list)
    given: Namespace = field(default_factory=Namespace)
    final: Namespace = field(default_factory=Namespace)
    config: dict = field(default_factory=dict)
    fresh: bool = False
    adapter: ChosenAdapter | None = None


def read(argv: Sequence[str]) -> Plan:
    """Split our flags from S3PRL's.

    Raises:
        ElpError: an unknown flag, a missing value, or a path in one of our flags that does not exist.
    """
    own, rest = flags.ours().parse_known_args(list(argv))
    rest = [
        "--local_rank" + flag.removeprefix("--local-rank") if flag.startswith("--local-rank") else flag for flag in rest
    ]
    given, unknown = flags.s3prl(defaults=False).parse_known_args(rest)
    if unknown and own.script is None:
        raise flags.unknown(unknown)
    args = Namespace(**{**flags.defaults(), **vars(given)})
    plan = Plan(args, rest, own=own, settings=_settings(own), given=given)
    if own.script:
        plan.script = arguments.file("--script", own.script).resolve()
    return plan


def _settings(own: Namespace) -> Settings:
    """The settings from our own flags; the environment decides the others."""
    said: dict[str, object] = {}
    if own.data:
        said["data"] = str(arguments.data("--data", own.data).resolve())
    if own.backbone:
        arguments.location("--backbone", own.backbone)
        said["backbone"] = own.backbone
    if own.no_self_check:
        said["self_check"] = False
    said |= {name: True for name in ("stock_loop", "skip_bad_files") if getattr(own, name)}
    return dataclasses.replace(settings.from_environment(), **said)


def complete(plan: Plan) -> None:
    """Register our names, refuse what cannot work, and add the flags that follow from the machine.

    Raises:
        ElpError: naming the invalid flag.
    """
    _use_clone(plan.script)
    _name_task(plan)
    _place(plan)
    if not _resumed(plan):
        _fresh(plan)
    if plan.own.skip_bad_files and plan.final.downstream not in registry.names():
        raise ElpError(
            f"--skip-bad-files does not work with S3PRL's own task {plan.final.downstream}, which reads its files "
            f"itself; remove the flag, or use {', '.join(registry.names())}"
        )
    if plan.args.mode == "inference":
        arguments.file("-t", plan.args.evaluate_split)
    arguments.trained(plan.args)


def _name_task(plan: Plan) -> None:
    """Replace the short name of one of our tasks by its full name."""
    given = plan.args.downstream
    name = registry.whole_name(given, others=places.stock_tasks())
    if name != given:
        plan.argv += ["-d", name]  # the last one counts
        plan.args.downstream = plan.given.downstream = name


def _place(plan: Plan) -> None:
    """Choose device, rank and backend according to the machine."""
    args = plan.args
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
        plan.argv += ["--device", args.device]
    kind = arguments.device(args.device).type
    here = ranks(args.local_rank).local
    if args.local_rank is None and here is not None:
        args.local_rank = here
        plan.argv += ["--local_rank", str(here)]
    if args.backend is None and args.local_rank is not None and kind == "cpu":
        plan.argv += ["--backend", "gloo"]


def _resumed(plan: Plan) -> bool:
    """Check and complete the flags of a run that resumes from a checkpoint; False for a new experiment."""
    args, flag, path = plan.args, "-e", plan.args.past_exp
    if args.auto_resume:
        expdir = Path(args.expdir or f"result/downstream/{args.expname}")
        if checkpoints.states(expdir):
            flag, path = "-a", str(expdir)
    if not path:
        return False
    register()
    found = arguments.checkpoint(flag, path)
    checkpoint = existing.saved(found)
    old, config = checkpoint.args, checkpoint.config
    arguments.name(f"{flag} {found}: -d", old.downstream, [*registry.names(), *places.stock_tasks()])
    overridden = overridden_by(args.override)
    resume.same_flags(flag, plan.given, old, found, overridden=overridden)
    resume.same_folder(flag, plan.given, found, overridden=overridden)
    again = moved.remembered(old, chosen=plan.settings)
    plan.settings = dataclasses.replace(plan.settings, **again)
    plan.notes += [f"{settings.VARIABLES[name]} is {place}, as for {found}" for name, place in again.items()]
    old = moved.at_home(old, found, backbone=plan.settings.backbone)
    old.device = args.device
    if "upstream_ckpt" not in overridden and moved.gone(old):
        raise ElpError(f"{flag}: {found} {moved.where_it_went(old)}")
    if args.config:
        resume.same_config(flag, args, old, copy.deepcopy(config), found)
    if args.mode == "train":
        existing.same_ranks(flag, found, checkpoint.ranks, ranks(args.local_rank).world)
    arguments.overridden(args.override, old, config)
    arguments.machine(old)
    existing.experiment_folder(old)
    _stock_loop(plan, config)
    _check_upstream(old)
    if args.mode == "train":
        blocks.check(config, where=str(found), ours=old.downstream in registry.names())
        existing.to_go_on(flag, found, checkpoint, old, stock_loop=plan.settings.stock_loop)
    args.past_exp = path
    plan.final, plan.config = old, config
    return True


def _fresh(plan: Plan) -> None:
    """Check and complete the flags of a new experiment."""
    args = plan.args
    arguments.name("-d", args.downstream, [*registry.names(), *places.stock_tasks()])
    arguments.stock_task(args.downstream)
    path = arguments.config(args, plan.script)
    if args.config != str(path):
        plan.argv += ["-c", str(path)]  # the last one counts
        args.config = str(path)
    _check_upstream(args)
    arguments.variant(args)
    plan.adapter = chosen_adapter(args)
    content = recipes.read_for(path, plan.adapter)
    whole = copy.deepcopy(content) if recipes.differs(path) else None
    if args.init_ckpt:
        existing.loadable("-i", arguments.checkpoint("-i", args.init_ckpt))
    if args.mode == "train":
        _choose_trainable(plan)
    final = Namespace(**vars(args))
    arguments.overridden(args.override, final, content)
    arguments.machine(final)
    if any(getattr(final, name) != getattr(args, name) for name in _CHOOSE_ADAPTER):
        plan.adapter = chosen_adapter(final)
    _stock_loop(plan, content)
    plan.final, plan.config, plan.fresh = final, content, True
    where = f"-c {path}{' with -o' if args.override else ''}"
    if args.downstream not in arguments.UNTRAINED:  # S3PRL's configuration for these has an empty runner block
        blocks.check(content, where=where, ours=args.downstream in registry.names())
    folder = existing.experiment_folder(final)
    if whole is not None:
        args.config = str(recipes.write(folder, path, whole))
        plan.argv += ["-c", args.config]
    if args.mode == "train" and ranks(args.local_rank).leads:
        note = existing.other_experiment(folder, final, content)
        plan.notes += [note] if note else []


def _stock_loop(plan: Plan, config: dict) -> None:
    """Report or refuse a precision and a way to compute features that S3PRL's own loop would ignore.

    Raises:
        ElpError: if the run trains.
    """
    block = config.get("runner")
    if not plan.settings.stock_loop or not isinstance(block, dict):
        return
    if plan.args.mode == "train":
        duration.check_stock_loop(block)
    if block.get("features_of", "batch") != "batch":
        if plan.args.mode == "train":
            raise ElpError("--stock-loop: S3PRL's loop ignores runner.features_of: utterance; remove one of them")
        plan.notes.append("S3PRL's loop evaluates batches, and not each utterance by itself as in training")
    precision = block.get("precision", "fp32")
    if precision != "fp32":
        if plan.args.mode == "train":
            raise ElpError(
                f"--stock-loop: S3PRL's loop ignores runner.precision ({precision}); remove one of them "
                "(its own key is runner.fp16)"
            )
        plan.notes.append(f"S3PRL's loop evaluates in fp32, not in {precision} as in training")


def _check_upstream(args: Namespace) -> None:
    """Refuse an unknown upstream or one with missing files."""
    register()
    if args.hub == "huggingface":
        _check_hub()
        return
    hub = importlib.import_module("s3prl.hub")
    arguments.name("-u", args.upstream, hub.options())
    arguments.upstream_files(args)


def _check_hub() -> None:
    import huggingface_hub

    if not hasattr(huggingface_hub.HfApi, "login"):
        raise ElpError(
            "--hub huggingface does not work with this huggingface_hub, which has no login call any more; download the "
            "model and use -k"
        )


def _choose_trainable(plan: Plan) -> None:
    """Turn ``-f`` on for new adapters, as without it S3PRL silently leaves them untrained."""
    args = plan.args
    if args.upstream_trainable or not args.upstream.startswith("elp_"):
        return
    if plan.adapter.folder is not None:
        plan.notes.append(
            f"the adapters in {args.upstream_ckpt} are already trained and stay frozen; -f trains them further"
        )
        return
    if plan.adapter.config.trains_backbone:
        plan.argv.append("-f")
        args.upstream_trainable = True
        plan.notes.append(f"-f is on, because the adapters of {args.upstream} are new")


def _use_clone(script: Path | None) -> None:
    """Use the user's clone instead of the installed s3prl.

    Raises:
        ElpError: if the script is not in an s3prl package, or another s3prl has already been imported.
    """
    if script is None:
        return
    if script.parent.name != "s3prl" or not (script.parent / "hub.py").is_file():
        raise ElpError(f"--script {script} is not in an s3prl package; name CLONE/s3prl/run_downstream.py")
    root = str(script.parent.parent)
    if sys.path[0] != root:
        sys.path.insert(0, root)
        importlib.invalidate_caches()
    if places.s3prl_folder().resolve() != script.parent:
        raise ElpError(
            f"--script {script} cannot be used: this process has already imported the s3prl in {places.s3prl_folder()}"
        )
