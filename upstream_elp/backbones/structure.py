"""The structure of a backbone's modules, and the changes that an injection makes to it.

An injection adds modules, hooks and attributes, moves tensors into parametrizations and changes classes. All of that is
stored in the modules' dictionaries, so it can be undone and redone by setting their items: no tensor is copied, no
module is built, and the backbone has exactly the same objects as before.
Nothing here depends on the adapters, so it works for methods of other packages too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

CONTAINERS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
"""The dictionaries of every module: parameters, buffers, children and all kinds of hooks."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model without torch's DistributedDataParallel around it, if there is one."""
    return getattr(model, "module", model)


class Absent:
    """Marks an item that does not exist; a class, so that a deep copy does not change it."""


@dataclass(frozen=True)
class Item:
    """One item of a module that an injection added, removed or replaced."""

    owner: nn.Module
    container: str | None
    """One of :data:`CONTAINERS`, or None for a plain attribute."""
    key: Any
    plain: Any
    """Its value without the adapter; :class:`Absent` if there is none."""
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
    """The order of keys in a container, without and with the adapter; a removed key would come back as the last."""

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
    """The changes of one injection; :meth:`undo` and :meth:`redo` may be called any number of times in any order."""

    items: tuple[Item, ...]
    orders: tuple[Order, ...]
    classes: tuple[tuple[nn.Module, type, type], ...]
    """Module, its class without the adapter, and its class with the adapter."""

    def undo(self) -> None:
        """Restore the structure that the backbone had before the injection."""
        self._set(adapted=False)

    def redo(self) -> None:
        """Restore the structure that the backbone had after the injection."""
        self._set(adapted=True)

    @property
    def added(self) -> list[nn.Module]:
        """Modules that the injection added to the backbone."""
        placed = [item.adapted for item in self.items if item.container == "_modules"]
        return [module for module in placed if isinstance(module, nn.Module)]

    def _set(self, *, adapted: bool) -> None:
        for part in (*self.items, *self.orders):
            part.set(adapted)
        for module, plain_class, adapted_class in self.classes:
            module.__class__ = adapted_class if adapted else plain_class


class Structure:
    """A snapshot of the modules under ``root``: their classes, attributes, tensors, children and hooks."""

    def __init__(self, root: nn.Module) -> None:
        self._seen = [(module, type(module), _items(module)) for module in root.modules()]

    def changes(self) -> Changes:
        """Return the changes to these modules since the snapshot."""
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
    """Return the values by (container, key), in order."""
    found: dict[tuple[str | None, Any], Any] = {}
    for name, value in vars(module).items():
        if name in CONTAINERS:
            found.update({(name, key): item for key, item in value.items()})
        else:
            found[None, name] = value
    return found


def _keys(items: Iterable[tuple[str | None, Any]], container: str) -> tuple[Any, ...]:
    return tuple(key for place, key in items if place == container)
