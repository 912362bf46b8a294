"""Check keys, types and names in the blocks of a task config that S3PRL's runner reads."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from upstream_elp.base.choices import FEATURES_OF, PRECISIONS
from upstream_elp.base.epochs import LAST, epochs_of
from upstream_elp.base.errors import ElpError, either
from upstream_elp.base.values import did_you_mean, is_number, is_whole
from upstream_elp.base.yaml_files import number_of
from upstream_elp.caching.choice import KINDS
from upstream_elp.training.trackers import TRACKERS

TOP_LEVEL = ("runner", "optimizer", "scheduler", "specaug", "downstream_expert")
REQUIRED = ("runner", "optimizer", "downstream_expert")
_NOT_OPTIMIZERS = {"optimizer", "grouped_parameters"}
_PASSED_ON = {"AdamW_with_schedule", "Lamb_with_schedule"}
"""S3PRL's optimizers that pass unknown keys on to its ``Lamb``; its others silently drop them."""
_ANY_TORCH = {"TorchOptim", "ELPOptim"}
"""Optimizers whose ``torch_optim_name`` chooses a torch.optim class, which gets the other keys."""
_BUILD_ERRORS = (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ArithmeticError)


def check(content: Mapping[str, Any], *, where: str, ours: bool) -> None:
    """Check a config after ``-o`` has been applied.

    Args:
        content: the config.
        where: where it comes from, for the message.
        ours: whether the task is one of ours, whose top-level and runner keys are all known.

    Raises:
        ElpError: one sentence that names every problem and the valid keys or names.
    """
    problems = _top_level(content, ours=ours)
    if isinstance(content.get("runner"), Mapping):
        problems += _runner(content["runner"], ours=ours)
    texts = [text for block in ("optimizer", "scheduler", "specaug") for text in _texts(block, content.get(block))]
    if isinstance(content.get("optimizer"), Mapping):
        problems += texts or _trained_by(content)
    if isinstance(content.get("specaug"), Mapping):
        specaug = importlib.import_module("s3prl.downstream.specaug").SpecAug
        problems += _keys("specaug", content["specaug"], _options(specaug), required=())
    if problems:
        raise ElpError(f"{where}: {'; '.join(problems)}")


def _top_level(content: Mapping[str, Any], *, ours: bool) -> list[str]:
    problems = [f"the block {key} is missing" for key in REQUIRED if content.get(key) is None]
    for key in TOP_LEVEL:
        if content.get(key) is not None and not isinstance(content[key], Mapping):
            problems.append(f"{key} must be a block of keys, but is {content[key]!r}")
    if ours:
        problems += _unknown("", content, TOP_LEVEL)
    return problems


# runner ------------------------------------------------------------------------------------------------------------


def _count(value: Any) -> bool:
    return is_whole(int(value) if isinstance(value, float) and value.is_integer() else value)


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


_COUNT = (_count, "a whole number of at least 1")
_TOTAL = (lambda value: _count(value) or epochs_of(value) is not None, f"{_COUNT[1]}, or epochs such as 7 epochs")
_EVAL = (lambda value: _count(value) or value == LAST, f"{_COUNT[1]}, or {LAST}")
_MANY = 10**9
"""Steps of a schedule that is only built to be checked, if their number depends on the corpus."""
# the keys that downstream/runner.py reads: whether each is required, a test, and the test in words
_RUNNER: dict[str, tuple[bool, Callable[[Any], bool], str]] = {
    "total_steps": (True, *_TOTAL),
    "gradient_clipping": (True, _positive, "a number above 0"),
    "gradient_accumulate_steps": (True, *_COUNT),
    "log_step": (True, *_COUNT),
    "eval_step": (True, *_EVAL),
    "save_step": (True, *_COUNT),
    "max_keep": (True, *_COUNT),
    "eval_dataloaders": (
        True,
        lambda value: isinstance(value, list) and all(isinstance(split, str) for split in value),
        "a list of splits such as [dev]",
    ),
    "train_dataloader": (False, lambda value: isinstance(value, str), "the name of a split"),
    "evaluate_ratio": (False, lambda value: _positive(value) and value <= 1, "a number above 0, at most 1"),
    "fp16": (False, lambda value: isinstance(value, bool), "true or false"),
    "precision": (False, lambda value: value in PRECISIONS, either(PRECISIONS)),
    "gradient_checkpointing": (False, lambda value: isinstance(value, bool), "true or false"),
    "fused_attention": (False, lambda value: isinstance(value, bool), "true or false"),
    "max_failed_steps": (False, *_COUNT),
    "cache": (False, lambda value: value is False or value in KINDS, f"one of {', '.join(KINDS)}"),
    "features_of": (False, lambda value: value in FEATURES_OF, either(FEATURES_OF)),
    "cache_dtype": (False, lambda value: value in PRECISIONS, either(PRECISIONS)),
    "cache_gb": (False, _positive, "a number of gigabytes above 0"),
    "trackers": (
        False,
        lambda value: isinstance(value, list) and all(name in tuple(TRACKERS) for name in value),
        f"a list of trackers, of {' and '.join(TRACKERS)}",
    ),
}


def _runner(block: Mapping[str, Any], *, ours: bool) -> list[str]:
    missing = [key for key, (required, *_) in _RUNNER.items() if required and key not in block]
    problems = [f"runner.{key} is missing ({_RUNNER[key][2]})" for key in missing]
    for key, (_, fits, words) in _RUNNER.items():
        if key in block and not fits(block[key]):
            problems.append(f"runner.{key} must be {words}, but is {block[key]!r}")
    if ours and block.get("train_dataloader", "train") != "train":
        problems.append(f"runner.train_dataloader must be 'train' for our tasks, but is {block['train_dataloader']!r}")
    # S3PRL's own configs may contain keys that nothing reads, so there only likely typing errors are refused
    suspect = block if ours else [key for key in block if did_you_mean(key, _RUNNER, cutoff=0.8)]
    return problems + _unknown("runner.", suspect, _RUNNER)


# optimizer and scheduler -------------------------------------------------------------------------------------------


def _trained_by(content: Mapping[str, Any]) -> list[str]:
    """Check names and keys of optimizer and scheduler, then build both for a tiny model."""
    module = importlib.import_module("s3prl.optimizers")
    steps = content["runner"].get("total_steps", 1) if isinstance(content.get("runner"), Mapping) else 1
    steps = _MANY if epochs_of(steps) else steps
    problems = _optimizer(content["optimizer"], module)
    schedulers, plan = importlib.import_module("s3prl.schedulers"), content.get("scheduler")
    if isinstance(plan, Mapping) and plan:
        problems += _named("scheduler", plan, _factories(schedulers, {"scheduler"}))
    if problems or not _count(steps):
        return problems
    block = "optimizer"
    try:
        optimizer = module.get_optimizer([torch.nn.Linear(1, 1)], steps, content["optimizer"])
        if isinstance(plan, Mapping) and plan:
            block = "scheduler"
            schedulers.get_scheduler(optimizer, steps, plan)
    except ElpError as error:
        return [str(error)]
    except _BUILD_ERRORS as error:
        return [f"{block}: {_short(error)}"]
    return []


def _optimizer(block: Mapping[str, Any], module: ModuleType) -> list[str]:
    name, factories = block.get("name"), _factories(module, _NOT_OPTIMIZERS)
    if "groups" in block and name in factories and "groups" not in _options(factories[name]):
        return [f"optimizer.groups does not work with {name}; choose the optimizer ELPAdam, ELPAdamW or ELPOptim"]
    if "torch_optim_name" in block and name in factories and name not in _ANY_TORCH:
        return [
            f"optimizer.torch_optim_name belongs to {' and '.join(sorted(_ANY_TORCH))}, not to {name}; replace the "
            f'whole block, for example with -o "config.optimizer={{name: {name}, lr: 1.0e-4}}"'
        ]
    if name not in _ANY_TORCH:
        through = _options(module.Lamb) if name in _PASSED_ON and hasattr(module, "Lamb") else {}
        problems = _named("optimizer", block, factories, through)
    else:
        base = torch.optim.Optimizer
        found = {key: value for key, value in vars(torch.optim).items() if inspect.isclass(value)}
        classes = {key: value for key, value in found.items() if issubclass(value, base) and value is not base}
        chosen = block.get("torch_optim_name")
        if chosen not in classes:
            return [_no_such("optimizer.torch_optim_name", chosen, classes)]
        options = {**_options(classes[chosen]), **_options(factories[name])}
        problems = _keys("optimizer", block, {**options, "name": True})
    if "lr" in block and not _positive(block["lr"]):
        problems.append(f"optimizer.lr must be a number above 0, but is {block['lr']!r}")
    return problems


def _named(
    where: str, block: Mapping[str, Any], factories: Mapping[str, Callable], through: Mapping[str, bool] | None = None
) -> list[str]:
    """Check a block whose ``name`` chooses a factory, which gets the other keys."""
    name = block.get("name")
    if name not in factories:
        return [_no_such(f"{where}.name", name, factories)]
    return _keys(where, block, {**(through or {}), **_options(factories[name]), "name": True})


def _factories(module: ModuleType, excluded: set[str]) -> dict[str, Callable]:
    found = {name.removeprefix("get_"): value for name, value in vars(module).items() if name.startswith("get_")}
    return {name: value for name, value in found.items() if name not in excluded}


def _options(function: Callable) -> dict[str, bool]:
    """The keys that a config can pass to a function, and whether each is required."""
    given = {"self", "params", "model_params", "optimizer", "total_steps", "num_training_steps"}
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in given and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def _texts(where: str, value: Any) -> list[str]:
    """Quoted numbers, which would end in a traceback from the optimizer."""
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in _texts(f"{where}.{key}", item)]
    if isinstance(value, list | tuple):
        return [text for index, item in enumerate(value) for text in _texts(f"{where}[{index}]", item)]
    number = number_of(value) if isinstance(value, str) else None
    return [f"{where} must be a number, but is {value!r}; write {number} without quotes"] if number else []


# messages ----------------------------------------------------------------------------------------------------------


def _keys(
    where: str, block: Mapping[str, Any], options: Mapping[str, bool], required: Iterable[str] | None = None
) -> list[str]:
    wanted = [key for key, needed in options.items() if needed] if required is None else required
    missing = [f"{where}.{key} is missing" for key in wanted if key not in block]
    return missing + _unknown(f"{where}.", block, options)


def _unknown(prefix: str, block: Iterable[Any], valid: Iterable[str]) -> list[str]:
    valid = list(valid)
    unknown = [key for key in block if key not in valid]
    if not unknown:
        return []
    hints = [hint for key in unknown if (hint := did_you_mean(key, valid))]
    names = ", ".join(f"{prefix}{key}" for key in unknown)
    return [f"unknown {names} ({' '.join([*hints, 'valid:'])} {', '.join(valid)})"]


def _no_such(where: str, name: Any, valid: Iterable[str]) -> str:
    valid = sorted(valid)
    fault = "is missing" if name is None else f"is {name!r}, but there is no such name"
    hint = did_you_mean(name, valid, then=f"valid: {', '.join(valid)}")
    return f"{where} {fault} ({hint})"


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
