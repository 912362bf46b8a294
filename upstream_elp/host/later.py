"""Packages that S3PRL and torch import at every start and most runs never use: here they are imported when used."""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from upstream_elp.host.edits import Edit, edit
from upstream_elp.host.item import Item

COMPILER = "torch._dynamo"
"""What torch.compile runs on; importing it takes as long as importing torch."""
_SYMBOLS = "torch.fx.experimental.symbolic_shapes"


class Later:
    """Stand-in for a module, or for a class in it, until it is used.

    Args:
        module: the module's name.
        name: the class in it; empty for the module itself.
    """

    def __init__(self, module: str, name: str = "") -> None:
        self._module = module
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._found(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)

    def _found(self) -> Any:
        module = importlib.import_module(self._module)
        return getattr(module, self._name) if self._name else module


def import_later(module: str, package: str, *names: str) -> None:
    """Replace a line ``from PACKAGE import NAMES`` (without names ``import PACKAGE``) in a module by stand-ins."""
    if names:
        line = f"from {package} import {', '.join(names)}"
        new = "; ".join(f"{name} = _elp_later({package!r}, {name!r})" for name in names)
    else:
        line, new = f"import {package}\n", f"{package} = _elp_later({package!r})\n"
    edit(module, Edit(line, new, {"_elp_later": Later}, required=False))


def transformers() -> None:
    """S3PRL's two upstreams of Hugging Face's format are in its hub."""
    import_later("s3prl.upstream.hf_hubert.expert", "transformers", "HubertModel", "Wav2Vec2FeatureExtractor")
    import_later("s3prl.upstream.hf_wav2vec2.expert", "transformers", "Wav2Vec2FeatureExtractor", "Wav2Vec2Model")


def internet() -> None:
    """Downloads and uploads."""
    import_later("s3prl.util.download", "requests")
    import_later("s3prl.downstream.runner", "huggingface_hub", "HfApi", "HfFolder", "Repository")
    import_later("s3prl.run_downstream", "huggingface_hub", "HfApi", "HfFolder")


# torch.compile -----------------------------------------------------------------------------------------------------


def compiles() -> bool:
    """Whether this process has already imported the compiler."""
    return COMPILER in sys.modules


def compiler() -> None:
    """Let optimizers import the compiler only if something else has imported it.

    Optimizers import it to exclude themselves from what is being compiled. Without it, nothing is being compiled.
    """
    for kind in {each for each in vars(torch.optim).values() if isinstance(each, type)}:
        for name, method in list(vars(kind).items()):
            code, plain = getattr(method, "__code__", None), getattr(method, "__wrapped__", None)
            if code is None or plain is None:
                continue
            if code.co_filename == torch._compile.__file__:  # what torch._disable_dynamo returns
                setattr(kind, name, _unless_compiling(method, plain))
            elif code.co_name == "_use_grad":  # what _use_grad_for_differentiable returns
                setattr(kind, name, _unless_compiling(method, _with_or_without_grad(plain)))


def _unless_compiling(method: Callable, plain: Callable) -> Callable:
    """A method that does without the part of ``method`` that imports the compiler, until it is imported."""

    @functools.wraps(method)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs) if compiles() else plain(*args, **kwargs)

    return chosen


def _with_or_without_grad(step: Callable) -> Callable:
    """What ``torch.optim.optimizer._use_grad_for_differentiable`` makes of a step, without its graph breaks."""

    def plain(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return plain


def knows_symbols() -> bool:
    """Whether this process has already imported torch's symbolic shapes, and with them sympy."""
    return _SYMBOLS in sys.modules


def symbols() -> None:
    """Let torch's checks of conditions import sympy only for conditions that are not simply true."""
    check = torch._check_with

    @functools.wraps(check)
    def checked(error_type: type[Exception], cond: Any, message: Any) -> None:
        if cond is not True:
            check(error_type, cond, message)

    torch._check_with = checked


ITEMS = (
    Item(
        "transformers at every start",
        "s3prl.hub imports two of its models, which takes longer than everything else; they are imported when used",
        "an s3prl that imports them when used",
        transformers,
    ),
    Item(
        "requests and huggingface_hub at every start",
        "S3PRL imports them for downloads and uploads; they are imported when used",
        "an s3prl that imports them when used",
        internet,
    ),
    Item(
        "torch.compile at every start",
        "the first optimizer imports torch's compiler, which takes as long as importing torch; it is imported for "
        "torch.compile only",
        "a torch whose optimizers do not import it",
        compiler,
        lambda: not compiles(),
    ),
    Item(
        "sympy at every start",
        "an attention with a padding mask imports it to check the mask; it is imported when used",
        "a torch that imports it for symbolic shapes only",
        symbols,
        lambda: hasattr(torch, "_check_with") and not knows_symbols(),
    ),
)
