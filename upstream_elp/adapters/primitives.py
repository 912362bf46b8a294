"""Primitives that put an adapter into a backbone: output sites, taps on inputs, and replaced tensors."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.base.errors import ElpError


class OutputSite(Switch):
    """Stands where a parameter-free dropout stood: applies it, then the site's adapters in order, then adds.

    ``adapters`` map the block's output after its dropout; ``additions`` see the output before the dropout, and what
    they return is added. The dropout has no tensors, so the backbone's state-dict keys do not change.
    """

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.adapters = nn.ModuleDict()
        self.additions = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(x)
        if self.enabled:
            for adapter in self.adapters.values():
                y = adapter(y)
            for addition in self.additions.values():
                y = y + addition(x)
        return y


class InputTap(Switch):
    """Keeps the first argument of the module it is a forward pre-hook of, until it is taken.

    A module and not a closure, so that a deep copy of the backbone feeds the copy's adapters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Tensor | None = None

    def forward(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """The pre-hook."""
        if self.enabled:
            self._seen = args[0]

    def take(self) -> Tensor:
        """Hand the input over and forget it, so that its graph is not kept alive.

        Raises:
            RuntimeError: if the module has not run since the last call.
        """
        if self._seen is None:
            raise RuntimeError("the tapped module has not run before its input was asked for")
        seen, self._seen = self._seen, None
        return seen


class ReplacedTensor(Switch):
    """Parametrization that puts a trainable copy in place of a frozen tensor, and steps aside when switched off.

    Args:
        original: the frozen tensor, which is copied.
    """

    def __init__(self, original: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(original.detach().clone())

    def forward(self, original: Tensor) -> Tensor:
        return self.value if self.enabled else original


def output_site(layer: nn.Module, attribute: str) -> OutputSite:
    """The output site at the path ``attribute`` in ``layer``, made of the dropout there by the first who asks.

    Raises:
        ElpError: if that module holds parameters, so that replacing it would change the backbone's keys.
    """
    module = layer.get_submodule(attribute)
    if isinstance(module, OutputSite):
        return module
    if next(module.parameters(), None) is not None:
        raise ElpError(f"the site {attribute} of {type(layer).__name__} holds parameters, so it cannot be replaced")
    site = OutputSite(module)
    owner, _, name = attribute.rpartition(".")
    setattr(layer.get_submodule(owner), name, site)
    return site


def train_copy(target: Target, component: str, name: str, index: int, key: str) -> None:
    """Put a trained copy in place of one of the backbone's own tensors, and declare it.

    Args:
        target: the backbone.
        component: method name.
        name: canonical name after the component.
        index: encoder layer.
        key: the tensor's name in that layer, such as ``fc1.bias``.
    """
    owner, _, tensor = key.rpartition(".")
    module = target.layer(index).get_submodule(owner)
    parametrize.register_parametrization(module, tensor, ReplacedTensor(getattr(module, tensor)))
    site = f"{target.layer_path(index)}.{owner}.parametrizations.{tensor}.0"
    target.declare(component, name, f"{site}.value")
    target.injection.sites.append(site)


class Mixin:
    """Base of what :func:`mix_in` puts before a module's class."""


class CheckpointedLayer(Mixin):
    """Mixed into a layer: where gradients are computed, its activations are computed twice and not kept."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's own forward."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        return checkpoint(super().forward, *args, use_reentrant=False, **kwargs)


def mix_in(module: nn.Module, mixin: type[Mixin]) -> None:
    """Let ``mixin`` go before the class of one module, whose tensors, children and hooks stay as they are."""
    if not isinstance(module, mixin):
        module.__class__ = _mixed(mixin, type(module))


@cache
def _mixed(mixin: type[Mixin], cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def take_out_mixin(module: nn.Module) -> None:
    """Undo :func:`mix_in`, if anything was mixed in."""
    if isinstance(module, Mixin):
        module.__class__ = type(module).__bases__[1]
