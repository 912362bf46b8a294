"""Primitives for putting an adapter into a backbone: output sites, taps on inputs, and replaced tensors."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from upstream_elp.adapters.injection import Switch, Target
from upstream_elp.base.errors import ElpError


class OutputSite(Switch):
    """Replaces a parameter-free dropout: applies the dropout, then the site's adapters in order, then the additions.

    ``adapters`` map the block's output after its dropout. ``additions`` see the output before the dropout, and their
    result is added. The dropout has no tensors, so the keys of the backbone's state dict do not change.
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
    """A forward pre-hook that keeps the first argument of its module until it is taken.

    It is a module and not a closure, so that a deep copy of the backbone feeds the copy's adapters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Tensor | None = None

    def forward(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Run as the pre-hook."""
        if self.enabled:
            self._seen = args[0]

    def take(self) -> Tensor:
        """Return the input and forget it, so that its graph is not kept alive.

        Raises:
            RuntimeError: the module has not run since the last call.
        """
        if self._seen is None:
            raise RuntimeError("the input of a tapped module was requested before the module had run")
        seen, self._seen = self._seen, None
        return seen


class ReplacedTensor(Switch):
    """Parametrization that replaces a frozen tensor by a trained copy, unless it is switched off.

    Args:
        original: the frozen tensor to copy.
    """

    def __init__(self, original: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(original.detach().clone())

    def forward(self, original: Tensor) -> Tensor:
        return self.value if self.enabled else original


def output_site(layer: nn.Module, attribute: str) -> OutputSite:
    """Return the output site at the path ``attribute`` in ``layer``; the first call makes it from the dropout there.

    Raises:
        ElpError: the module there has parameters, so that replacing it would change the backbone's keys.
    """
    module = layer.get_submodule(attribute)
    if isinstance(module, OutputSite):
        return module
    if next(module.parameters(), None) is not None:
        raise ElpError(f"the site {attribute} of {type(layer).__name__} has parameters, so it cannot be replaced")
    site = OutputSite(module)
    owner, _, name = attribute.rpartition(".")
    setattr(layer.get_submodule(owner), name, site)
    return site


def train_copy(target: Target, component: str, name: str, index: int, key: str) -> None:
    """Replace one of the backbone's own tensors by a trained copy, and declare the copy.

    Args:
        target: the backbone.
        component: method name.
        name: canonical name after the component.
        index: encoder layer.
        key: name of the tensor in that layer, such as ``fc1.bias``.
    """
    owner, _, tensor = key.rpartition(".")
    module = target.layer(index).get_submodule(owner)
    parametrize.register_parametrization(module, tensor, ReplacedTensor(getattr(module, tensor)))
    site = f"{target.layer_path(index)}.{owner}.parametrizations.{tensor}.0"
    target.declare(component, name, f"{site}.value")
    target.injection.sites.append(site)


class Mixin:
    """Base of the classes that :func:`mix_in` puts before a module's class."""


class CheckpointedLayer(Mixin):
    """Lets a layer recompute its activations in the backward pass instead of keeping them."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer's own forward."""
        tensors = (value for value in (*args, *kwargs.values(), *self.parameters()) if isinstance(value, Tensor))
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
            return super().forward(*args, **kwargs)  # below the lowest trained tensor there is nothing to keep
        return checkpoint(super().forward, *args, use_reentrant=False, **kwargs)


def mix_in(module: nn.Module, mixin: type[Mixin]) -> None:
    """Put ``mixin`` before the class of one module; its tensors, children and hooks stay as they are."""
    if not isinstance(module, mixin):
        module.__class__ = _mixed(mixin, type(module))


@cache
def _mixed(mixin: type[Mixin], cls: type[nn.Module]) -> type[nn.Module]:
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def take_out_mixin(module: nn.Module) -> None:
    """Undo :func:`mix_in` if anything was mixed in."""
    if isinstance(module, Mixin):
        module.__class__ = type(module).__bases__[1]
