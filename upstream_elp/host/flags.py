"""The flags of ``elp run``: S3PRL's own, as far as they must be understood before S3PRL is imported, and ours."""

import argparse
import functools
from typing import Any, NoReturn

from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean

MODES = ("train", "evaluate", "inference")

# flags, destination or options, help: run_downstream.py of S3PRL 0.4.18
_S3PRL: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
    (("-m", "--mode"), {"choices": MODES, "required": True}, "what to do"),
    (("-u", "--upstream"), {"metavar": "NAME"}, "upstream; elp_* are ours, `elp doctor` lists them"),
    (
        ("-d", "--downstream"),
        {"metavar": "TASK"},
        "{tasks} or S3PRL's",
    ),
    (("-n", "--expname"), {"metavar": "NAME"}, "save in result/downstream/NAME"),
    (("-p", "--expdir"), {"metavar": "DIR"}, "save in DIR"),
    (("-f", "--upstream_trainable"), {"action": "store_true"}, "train the upstream (elp_*: its adapters)"),
    (("-k", "--upstream_ckpt"), {"metavar": "PATH"}, "checkpoint of the backbone (path or URL), or an adapter folder"),
    (("-g", "--upstream_model_config"), {"metavar": "FILE"}, "elp_*: preset name or adapter YAML (default: elp)"),
    (("-s", "--upstream_feature_selection"), {"metavar": "KEY", "default": "hidden_states"}, "feature of the upstream"),
    (("-l", "--upstream_layer_selection"), {"metavar": "N", "type": int}, "one layer of the feature"),
    (("-o", "--override"), {"metavar": "A=V,,B=V"}, "args.NAME=VALUE,,config.PATH.TO.KEY=VALUE"),
    (("-e", "--past_exp"), {"metavar": "CKPT"}, "go on from a checkpoint or its folder, with its flags and config"),
    (("-a", "--auto_resume"), {"action": "store_true"}, "go on if the experiment folder holds checkpoints"),
    (("-i", "--init_ckpt"), {"metavar": "CKPT"}, "load a checkpoint's weights, keeping these flags and config"),
    (("-t", "--evaluate_split"), {"metavar": "SPLIT", "default": "test"}, "split to evaluate, or file to infer"),
    (("-c", "--config"), {"metavar": "FILE"}, "task config or name of a recipe (our tasks bring their own)"),
    (("-v", "--downstream_variant"), {"metavar": "NAME"}, "variant of the task, such as fold3 of elp_er"),
    (("-r", "--upstream_refresh"), {"action": "store_true"}, "download the upstream again"),
    (("--seed",), {"metavar": "N", "type": int, "default": 1337}, "seed of everything but the data split"),
    (("--device",), {"metavar": "NAME"}, "cpu, cuda, cuda:1 … (default: cuda if there is one)"),
    (("--backend",), {"metavar": "NAME"}, "nccl or gloo between ranks (default: by device)"),
    (("--local_rank", "--local-rank"), {"metavar": "N", "type": int}, "this rank's GPU (default: torchrun's)"),
    (("--upstream_feature_normalize",), {"action": "store_true"}, "normalize features before the weighted sum"),
    (("--hub",), {"choices": ("torch", "huggingface"), "default": "torch"}, "where the upstream comes from"),
    (("--upstream_model_name",), {"metavar": "FILE", "default": "model.pt"}, "file in the Hugging Face repository"),
    (("--upstream_revision",), {"metavar": "HASH"}, "commit of the Hugging Face repository"),
    (("--push_to_hf_hub",), {"metavar": "BOOL", "default": False}, "upload the experiment"),
    (("--hf_hub_org",), {"metavar": "NAME"}, "organisation to upload to"),
    (("--cache_dir",), {"metavar": "DIR"}, "where downloaded upstreams are kept"),
    (("--verbose",), {"action": "store_true"}, "print more about the model"),
    (("--disable_cudnn",), {"action": "store_true"}, "switch cuDNN off"),
)

_OURS: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
    (("--data",), {"metavar": "DIR"}, "folder that holds LibriSpeech, VoxCeleb1, IEMOCAP, … (sets ELP_DATA)"),
    (
        ("--backbone",),
        {"metavar": "PATH"},
        "where the backbone of an adapter folder is, or a checkpoint's if it moved (sets ELP_BACKBONE)",
    ),
    (("--script",), {"metavar": "FILE"}, "run_downstream.py of your own S3PRL clone, to be used instead of s3prl's"),
    (("--skip-bad-files",), {"action": "store_true"}, "skip and count audio that cannot be used (skipped_files.txt)"),
    (("--no-self-check",), {"action": "store_true"}, "skip the adapters' check at start (sets ELP_SELF_CHECK=0)"),
    (("--stock-loop",), {"action": "store_true"}, "train with S3PRL's own loop (sets ELP_STOCK_LOOP=1)"),
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is an :class:`ElpError`."""

    def error(self, message: str) -> NoReturn:
        raise ElpError(f"{message}; `elp run --help` lists the flags")


def ours() -> Parser:
    """A parser for our own flags alone; everything else is left over in order."""
    parser = Parser(prog="elp run", add_help=False, allow_abbrev=False)
    _fill(parser.add_argument_group("flags of elp run"), _OURS)
    return parser


def s3prl(*, defaults: bool = True) -> Parser:
    """A parser that understands S3PRL's flags as S3PRL does; without ``defaults`` it returns what was given alone."""
    parser = Parser(prog="elp run", add_help=False)
    _fill(parser.add_argument_group("flags of S3PRL's run_downstream"), _S3PRL)
    for action in parser._actions:
        action.default = action.default if defaults else argparse.SUPPRESS
    return parser


def defaults() -> dict[str, Any]:
    """Each of S3PRL's flags with the value that it has if nothing is said, for training."""
    return vars(s3prl().parse_args(["-m", "train"]))


@functools.cache
def texts() -> frozenset[str]:
    """Names of S3PRL's arguments whose value is taken as it is written, such as a folder's name."""
    actions = (action for action in s3prl()._actions if action.type is None and action.nargs is None)
    return frozenset(action.dest for action in actions if isinstance(action.default, str | None))


def help_text(*, tasks: str) -> str:
    """The help of ``elp run``: our flags, then S3PRL's; ``tasks`` names ours."""
    parser = Parser(
        prog="elp run",
        usage="elp run -m {train,evaluate,inference} -u UPSTREAM -d TASK -p DIR [flags]",
        description="Train or evaluate with S3PRL's run_downstream; our upstreams and tasks are registered.",
        add_help=False,
    )
    _fill(parser.add_argument_group("flags of elp run"), _OURS)
    _fill(parser.add_argument_group("flags of S3PRL's run_downstream"), _S3PRL, tasks=tasks)
    return parser.format_help()


def unknown(flags: list[str]) -> ElpError:
    """The error for arguments that neither S3PRL nor we know."""
    known = [name for names, *_ in (*_OURS, *_S3PRL) for name in names]
    hint = " ".join([did_you_mean(flags[0].split("=")[0], known, most=3), "`elp run --help`"]).lstrip()
    return ElpError(f"unknown argument {flags[0]!r}; {hint} lists the flags")


def _fill(group: Any, flags: tuple, *, tasks: str = "") -> None:
    for names, options, text in flags:
        group.add_argument(*names, help=text.replace("{tasks}", tasks).replace("%", "%%"), **options)
