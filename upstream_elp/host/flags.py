"""The flags of ``elp run``: S3PRL's own, which must be understood before S3PRL is imported, and ours."""

import argparse
import functools
from typing import Any, NoReturn

from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean

MODES = ("train", "evaluate", "inference")

# flags, destination or options, help: run_downstream.py of S3PRL 0.4.18
_S3PRL: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
    (("-m", "--mode"), {"choices": MODES, "required": True}, "what to do"),
    (("-u", "--upstream"), {"metavar": "NAME"}, "upstream; `elp backbones` lists ours (elp_*)"),
    (
        ("-d", "--downstream"),
        {"metavar": "TASK"},
        "task: {tasks}, or one of S3PRL's",
    ),
    (("-n", "--expname"), {"metavar": "NAME"}, "save in result/downstream/NAME"),
    (("-p", "--expdir"), {"metavar": "DIR"}, "save in DIR"),
    (("-f", "--upstream_trainable"), {"action": "store_true"}, "train the upstream (for elp_*: its adapters)"),
    (("-k", "--upstream_ckpt"), {"metavar": "PATH"}, "checkpoint of the backbone (path or URL), or an adapter folder"),
    (
        ("-g", "--upstream_model_config"),
        {"metavar": "FILE"},
        "for elp_*: adapter preset or YAML file (default: elp; see `elp presets`)",
    ),
    (("-s", "--upstream_feature_selection"), {"metavar": "KEY", "default": "hidden_states"}, "feature of the upstream"),
    (("-l", "--upstream_layer_selection"), {"metavar": "N", "type": int}, "one layer of the feature"),
    (("-o", "--override"), {"metavar": "A=V,,B=V"}, "args.NAME=VALUE,,config.PATH.TO.KEY=VALUE"),
    (("-e", "--past_exp"), {"metavar": "CKPT"}, "resume from a checkpoint or its folder, with its flags and config"),
    (("-a", "--auto_resume"), {"action": "store_true"}, "resume if the experiment folder contains checkpoints"),
    (("-i", "--init_ckpt"), {"metavar": "CKPT"}, "load a checkpoint's weights, but use these flags and this config"),
    (("-t", "--evaluate_split"), {"metavar": "SPLIT", "default": "test"}, "split to evaluate, or file to infer"),
    (("-c", "--config"), {"metavar": "FILE"}, "task config or name of a recipe (default: our task's own)"),
    (("-v", "--downstream_variant"), {"metavar": "NAME"}, "variant of the task, e.g. fold3 for elp_er"),
    (("-r", "--upstream_refresh"), {"action": "store_true"}, "download the upstream again"),
    (("--seed",), {"metavar": "N", "type": int, "default": 1337}, "seed of everything except the data split"),
    (("--device",), {"metavar": "NAME"}, "cpu, cuda or cuda:N (default: cuda if available)"),
    (("--backend",), {"metavar": "NAME"}, "nccl or gloo between ranks (default: depends on the device)"),
    (("--local_rank", "--local-rank"), {"metavar": "N", "type": int}, "this rank's GPU (default: torchrun's)"),
    (("--upstream_feature_normalize",), {"action": "store_true"}, "normalise features before the weighted sum"),
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
    (
        ("--data",),
        {"metavar": "PATH"},
        "folder with the corpora (LibriSpeech, VoxCeleb1, …), or a manifest of your own data (sets ELP_DATA)",
    ),
    (
        ("--backbone",),
        {"metavar": "PATH"},
        "the backbone of an adapter folder, or of a checkpoint if it has moved (sets ELP_BACKBONE)",
    ),
    (
        ("--script",),
        {"metavar": "FILE"},
        "run_downstream.py of your own S3PRL clone, to use instead of the installed s3prl",
    ),
    (
        ("--skip-bad-files",),
        {"action": "store_true"},
        "skip audio that cannot be used, and list it in skipped_files.txt",
    ),
    (("--no-self-check",), {"action": "store_true"}, "skip the check of the adapters at start (sets ELP_SELF_CHECK=0)"),
    (("--stock-loop",), {"action": "store_true"}, "train with S3PRL's own loop (sets ELP_STOCK_LOOP=1)"),
)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises an :class:`ElpError`."""

    def error(self, message: str) -> NoReturn:
        raise ElpError(f"{message}; `elp run --help` lists the flags")


def ours() -> Parser:
    """A parser for our own flags only; everything else is left over in order."""
    parser = Parser(prog="elp run", add_help=False, allow_abbrev=False)
    _fill(parser.add_argument_group("flags of elp run"), _OURS)
    return parser


def s3prl(*, defaults: bool = True) -> Parser:
    """A parser that reads S3PRL's flags as S3PRL does; without ``defaults``, it returns only the flags that are set."""
    parser = Parser(prog="elp run", add_help=False)
    _fill(parser.add_argument_group("flags of S3PRL's run_downstream"), _S3PRL)
    for action in parser._actions:
        action.default = action.default if defaults else argparse.SUPPRESS
    return parser


def defaults() -> dict[str, Any]:
    """The default values of S3PRL's flags, for training."""
    return vars(s3prl().parse_args(["-m", "train"]))


@functools.cache
def texts() -> frozenset[str]:
    """Names of S3PRL's arguments whose value is taken literally, such as the name of a folder."""
    actions = (action for action in s3prl()._actions if action.type is None and action.nargs is None)
    return frozenset(action.dest for action in actions if isinstance(action.default, str | None))


def help_text(*, tasks: str) -> str:
    """The help of ``elp run``: our flags, then S3PRL's; ``tasks`` names ours."""
    parser = Parser(
        prog="elp run",
        usage="elp run -m {train,evaluate,inference} -u UPSTREAM -d TASK -p DIR [flags]",
        description="Train, evaluate or infer with S3PRL's run_downstream, with our upstreams and tasks registered.",
        epilog="Example: elp run -m train -u elp_wavlm_base_plus -g le -d elp_asr -p exp/le",
        add_help=False,
    )
    _fill(parser.add_argument_group("flags of elp run"), _OURS)
    _fill(parser.add_argument_group("flags of S3PRL's run_downstream"), _S3PRL, tasks=tasks)
    return parser.format_help()


def unknown(flags: list[str]) -> ElpError:
    """The error for arguments that are neither S3PRL's nor ours."""
    known = [name for names, *_ in (*_OURS, *_S3PRL) for name in names]
    hint = did_you_mean(flags[0].split("=")[0], known, most=3, then="`elp run --help` lists the flags")
    return ElpError(f"unknown argument {flags[0]!r}; {hint}")


def _fill(group: Any, flags: tuple, *, tasks: str = "") -> None:
    for names, options, text in flags:
        group.add_argument(*names, help=text.replace("{tasks}", tasks).replace("%", "%%"), **options)
