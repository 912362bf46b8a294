"""Adapter methods from other packages, found through the entry-point group ``upstream_elp.adapters``.

A method is one frozen dataclass: its fields are the YAML options, and it has ``check(layers, dim, *, where)``,
``count(model)`` and ``inject(target)``, as the options in :mod:`upstream_elp.adapters.options` and the injectors in
:mod:`upstream_elp.adapters` have. The entry point's name is the method's YAML key and its component's name.
A package is imported only when a configuration names its method.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from upstream_elp.adapters.options import METHODS
from upstream_elp.base.errors import ElpError
from upstream_elp.base.installed import FAILURES

GROUP = "upstream_elp.adapters"


@cache
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in METHODS or entry.name in found:
            raise ElpError(
                f"the package that offers the adapter method {entry.name!r} ({entry.value}) takes a taken name"
            )
        found[entry.name] = entry
    return found


def method_names() -> list[str]:
    """All methods' names: ours in the order of injection, then those of other packages."""
    return [*METHODS, *sorted(_entries())]


@cache
def method_options(name: str) -> type:
    """The options class of a method in :func:`method_names`.

    Raises:
        ElpError: if another package's class cannot be imported or lacks part of the contract.
    """
    if name in METHODS:
        return METHODS[name]
    entry = _entries()[name]
    try:
        options = entry.load()
    except FAILURES as error:
        raise ElpError(f"the adapter method {name!r} cannot be imported from {entry.value}: {error}") from error
    if lacking := [part for part in ("check", "count", "inject") if not callable(getattr(options, part, None))]:
        raise ElpError(f"the adapter method {name!r} ({entry.value}) has no {', '.join(lacking)}")
    return options
