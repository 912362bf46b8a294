"""One patch of the table, and the two usual ways to apply one."""

from collections.abc import Callable
from dataclasses import dataclass

from upstream_elp.host.edits import Edit, after, edit


@dataclass(frozen=True)
class Item:
    """One patch.

    Args:
        name: what it patches.
        why: what happens without it.
        until: what makes it unnecessary.
        apply: applies it, now or when the module in question is imported.
        needed: whether this process needs it.
        found: what was found in this process, in words; empty if there is nothing to add.
    """

    name: str
    why: str
    until: str
    apply: Callable[[], None]
    needed: Callable[[], bool] = lambda: True
    found: Callable[[], str] = str


def edit_module(module: str, *edits: Edit) -> Callable[[], None]:
    """A function that registers edits of a module's source, which are made when it is imported."""
    return lambda: edit(module, *edits)


def after_import(module: str, hook: Callable) -> Callable[[], None]:
    """A function that registers a hook, which gets a module once it is imported."""
    return lambda: after(module, hook)
