"""The blocks of a plan: one product of lists each, and what it excludes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.sweep import changes, values
from upstream_elp.sweep.choices import Backbone, Method, backbone, method
from upstream_elp.sweep.names import apart

AXES = ("tasks", "methods", "backbones", "seeds", "folds")
"""The lists whose product a plan forms; ``grid`` adds more."""
BLOCK = (*AXES, "config", "set", "grid")
"""Keys of a block: of the plan itself, and of each entry of ``include``."""
ALL = "all"


@dataclass(frozen=True)
class Block:
    """One product of lists.

    Args:
        where: what to call it in messages.
        tasks: full names of tasks.
        methods: adapters, or S3PRL's upstreams.
        backbones: frozen models.
        seeds: ``--seed`` of each run; none, to end after the search. None if the plan does not say.
        folds: ``-v`` of tasks that have variants; None for their default, and ``all`` for every one.
        config: task configuration by full name of the task, or for all tasks under the key None; ``{task}`` stands for
            the task's short name.
        changes: dotted key -> value, for all runs of the block.
        grid: dotted key -> values.
    """

    where: str
    tasks: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    backbones: tuple[Backbone, ...] = ()
    seeds: tuple[int, ...] | None = None
    folds: tuple[str, ...] | str | None = None
    config: Mapping[str | None, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def read(raw: Mapping[str, Any], where: str, known: Block) -> Block:
    """Read a block; what it does not state is as in ``known``."""
    values.check_keys(raw, BLOCK, where)
    found: dict[str, Any] = {}
    if "tasks" in raw:
        found["tasks"] = values.tasks(raw["tasks"], f"{where}: tasks")
    for key, reader in (("methods", method), ("backbones", backbone)):
        if key in raw:
            found[key] = tuple(reader(each, f"{where}: {key}") for each in values.filled(raw[key], f"{where}: {key}"))
    if "seeds" in raw:
        found["seeds"] = () if raw["seeds"] == [] else values.seeds(raw["seeds"], f"{where}: seeds")
    if "folds" in raw:
        found["folds"] = ALL if raw["folds"] == ALL else values.texts(raw["folds"], f"{where}: folds")
    if "config" in raw:
        found["config"] = {**known.config, **_config(raw["config"], f"{where}: config")}
    if "set" in raw:
        changed = values.mapping(raw["set"], f"{where}: set")
        for key in changed:
            changes.check(key, f"{where}: set")
        found["changes"] = {**known.changes, **apart(changed)}
    if "grid" in raw:
        found["grid"] = changes.grid(raw["grid"], f"{where}: grid")
    block = replace(known, **found)
    if both := sorted({*block.changes} & {*apart(block.grid)}):
        raise ElpError(f"{where}: {both[0]} must be either in set or in grid, but is in both; remove one of them")
    return block


def _config(raw: Any, where: str) -> dict[str | None, str]:
    if isinstance(raw, str):
        return {None: values.text(raw, where)}
    named = values.mapping(raw, where)
    return {values.task(key, where): values.text(value, f"{where}.{key}") for key, value in named.items()}


def exclusion(raw: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for key, value in raw.items():
        if key not in AXES:
            changes.check(key, f"{where}: neither one of {', '.join(AXES)} nor a changed key")
        listed = tuple(value) if isinstance(value, list) else (value,)
        found[str(key)] = values.tasks(listed, f"{where}: tasks") if key == "tasks" else listed
    return found
