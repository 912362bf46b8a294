"""How the modules of a backbone hang together, and what an injection changes in it.

An injection adds modules, hooks and attributes, moves tensors into parametrizations and changes classes. All of that
lies in the modules' dictionaries, so it can be taken out and put back by setting those items: no tensor is copied, no
module is built, and what stands there afterwards are the very objects that stood there before.
Nothing here knows the adapters, so it holds for methods of other packages too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

CONTAINERS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
"""The dictionaries of every module: parameters, buffers, children and the kinds of hooks."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where torch's DistributedDataParallel may stand around it."""
    return getattr(model, "module", model)


class Absent:
    """Stands for an item that is not there; a class, so that a deep copy leaves it what it is."""


@dataclass(frozen=True)
class Item:
    """One item of a module that an injection added, took away or replaced."""

    owner: nn.Module
    container: str | None
    """One of :data:`CONTAINERS`, or None for a plain attribute."""
    key: Any
    plain: Any
    """Its value without the adapter, :class:`Absent` if there is none."""
    adapted: Any

    def set(self, adapted: bool) -> None:
        """Put one of the two values in place."""
        items = vars(self.owner) if self.container is None else vars(self.owner)[self.container]
        value = self.adapted if adapted else self.plain
        if value is Absent:
            items.pop(self.key, None)
        else:
            items[self.key] = value


@dataclass(frozen=True)
class Order:
    """The keys of one container without and with the adapter: a key that goes and comes back would be the last."""

    owner: nn.Module
    container: str
    plain: tuple[Any, ...]
    adapted: tuple[Any, ...]

    def set(self, adapted: bool) -> None:
        """Sort the container; keys that came later, such as a user's hook, go first."""
        items = vars(self.owner)[self.container]
        known = [key for key in (self.adapted if adapted else self.plain) if key in items]
        items.update([(key, items.pop(key)) for key in known])


@dataclass(frozen=True)
class Changes:
    """What one injection changed; :meth:`undo` and :meth:`redo` may be called in any order and number."""

    items: tuple[Item, ...]
    orders: tuple[Order, ...]
    classes: tuple[tuple[nn.Module, type, type], ...]
    """Module, its class without and with the adapter."""

    def undo(self) -> None:
        """Give the backbone the structure that it had before the injection."""
        self._set(adapted=False)

    def redo(self) -> None:
        """Give the backbone the structure that it had after the injection."""
        self._set(adapted=True)

    @property
    def added(self) -> list[nn.Module]:
        """Modules that the injection put among the backbone's."""
        placed = [item.adapted for item in self.items if item.container == "_modules"]
        return [module for module in placed if isinstance(module, nn.Module)]

    def _set(self, *, adapted: bool) -> None:
        for part in (*self.items, *self.orders):
            part.set(adapted)
        for module, plain_class, adapted_class in self.classes:
            module.__class__ = adapted_class if adapted else plain_class


class Structure:
    """A picture of the modules under ``root``: their classes, attributes, tensors, children and hooks."""

    def __init__(self, root: nn.Module) -> None:
        self._seen = [(module, type(module), _items(module)) for module in root.modules()]

    def changes(self) -> Changes:
        """What has changed since, in the modules of the picture."""
        items: list[Item] = []
        orders: list[Order] = []
        for module, _, before in self._seen:
            after = _items(module)
            touched = set()
            for key in {**before, **after}:
                plain, adapted = before.get(key, Absent), after.get(key, Absent)
                if plain is not adapted:
                    items.append(Item(module, *key, plain, adapted))
                    touched.add(key[0])
            for container in touched - {None}:
                orders.append(Order(module, container, _keys(before, container), _keys(after, container)))
        classes = tuple((module, cls, type(module)) for module, cls, _ in self._seen if type(module) is not cls)
        return Changes(tuple(items), tuple(orders), classes)


def _items(module: nn.Module) -> dict[tuple[str | None, Any], Any]:
    """(container, key) to value, in order."""
    found: dict[tuple[str | None, Any], Any] = {}
    for name, value in vars(module).items():
        if name in CONTAINERS:
            found.update({(name, key): item for key, item in value.items()})
        else:
            found[None, name] = value
    return found


def _keys(items: Iterable[tuple[str | None, Any]], container: str) -> tuple[Any, ...]:
    return tuple(key for place, key in items if place == container)
