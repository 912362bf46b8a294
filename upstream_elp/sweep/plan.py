"""The plan file of a sweep, read strictly: what is to be run, as products of lists.

A plan says only what differs from the plan that its ``base`` names. Nothing is resolved here: see
:mod:`upstream_elp.sweep.points` for the product and :mod:`upstream_elp.sweep.resolve` for the runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.packaged import recipes_dir
from upstream_elp.base.values import did_you_mean
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.sweep import compare as comparing
from upstream_elp.sweep import values
from upstream_elp.sweep.choices import Backbone, Method, backbone, method
from upstream_elp.sweep.names import apart, slug, split

AXES = ("tasks", "methods", "backbones", "seeds", "folds")
"""The lists whose product a plan forms; ``grid`` adds more."""
BLOCK = (*AXES, "config", "set", "grid")
"""Keys of a block: of the plan itself, and of each entry of ``include``."""
TEXTS = ("name", "description", "source")
KEYS = (*TEXTS, "base", "data", *BLOCK, "include", "exclude", "search", "compare")
SEARCH = ("seeds", "grid", "methods")
CHANGED = ("adapter", "runner", "optimizer", "scheduler", "specaug", "downstream_expert")
"""The blocks that ``set`` and ``grid`` may change: the adapter's configuration, and those of a task's configuration."""
MERGED = ("set", "grid", "config")
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


@dataclass(frozen=True)
class Search:
    """A search on dev before the test: the seeds of the search, and the grid of each method by its name."""

    seeds: tuple[int, ...]
    grids: Mapping[str, Mapping[str, tuple[Any, ...]]]


@dataclass(frozen=True)
class Plan:
    """A whole plan; ``blocks`` are the plan's own product and those under ``include``, ``content`` what was read."""

    name: str
    where: str
    blocks: tuple[Block, ...]
    description: str = ""
    source: str = ""
    data: str | None = None
    exclude: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    search: Search | None = None
    compare: comparing.Compare = field(default_factory=comparing.Compare)
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The names of the methods, each once."""
        return list(dict.fromkeys(each.name for block in self.blocks for each in block.methods))


def read_plan(place: str | Path) -> Plan:
    """Read a plan.

    Args:
        place: a file, or the name of a packaged plan.

    Raises:
        ElpError: it cannot be read, or contains an unknown key or a wrong value.
    """
    path = _file(place)
    return parse_plan(_merged(path, seen=()), where=str(path), name=path.stem)


def plan_name(place: str | Path) -> str:
    """Return a plan's name without checking the rest of it, which may name files of another machine.

    Raises:
        ElpError: there is no such plan, or it cannot be read.
    """
    path = _file(place)
    return str(_merged(path, seen=()).get("name", path.stem))


def _file(place: str | Path) -> Path:
    path, packaged = Path(place), packaged_plans()
    if path.is_file():
        return path
    if str(place) not in packaged:
        hint = did_you_mean(place, packaged, then=f"the packaged plans are: {', '.join(packaged)}")
        raise ElpError(f"{place} must be a file or the name of a packaged plan, but is neither; {hint}")
    return packaged[str(place)]


def packaged_plans() -> dict[str, Path]:
    """Return the plans that come with the package, by name."""
    return {path.stem: path for path in sorted((recipes_dir() / "ablations").glob("*.yaml"))}


def parse_plan(raw: Mapping[str, Any], *, where: str, name: str) -> Plan:
    """Check the content of a plan.

    Args:
        raw: keys of :data:`KEYS` without ``base``.
        where: where it comes from, for messages.
        name: the plan's name if it does not state one.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    values.check_keys(raw, KEYS, where)
    texts = {key: values.text(raw[key], f"{where}: {key}") for key in (*TEXTS, "data") if raw.get(key) is not None}
    own = _block({key: raw[key] for key in BLOCK if key in raw}, where, Block(where))
    added = values.entries(raw, "include", where)
    included = [_block(entry, at, replace(own, where=at, grid={})) for at, entry in added]
    plan = Plan(
        name=slug(texts.pop("name", name), f"{where}: name"),
        where=where,
        blocks=(own, *included),
        exclude=tuple(_exclusion(entry, at) for at, entry in values.entries(raw, "exclude", where)),
        content=dict(raw),
        **texts,
    )
    _check_names(plan)
    compare = comparing.read(raw.get("compare"), plan.methods, where=f"{where}: compare")
    return replace(plan, compare=compare, search=_search(raw.get("search"), plan))


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    content = read_yaml(path, name=str(path))
    if not isinstance(content, dict):
        raise ElpError(f"{path} must be a mapping with keys such as tasks and methods, but is {shown(content)}")
    base = content.pop("base", None)
    if base is None:
        return content
    start, seen = path.parent / values.text(base, f"{path}: base"), (*seen, path.resolve())
    if start.resolve() in seen:
        raise ElpError(f"{path}: base must not lead in a circle, but {start} is this plan itself or starts from it")
    if not start.is_file():
        raise ElpError(f"{path}: base must be another plan, relative to this one, but there is no file {start}")
    merged = {key: value for key, value in _merged(start, seen).items() if key not in TEXTS}
    for key, value in content.items():
        both = key in MERGED and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


# blocks ------------------------------------------------------------------------------------------------------------


def _block(raw: Mapping[str, Any], where: str, known: Block) -> Block:
    """Read a block; what it does not state is as in ``known``."""
    values.check_keys(raw, BLOCK, where)
    read: dict[str, Any] = {}
    if "tasks" in raw:
        read["tasks"] = values.tasks(raw["tasks"], f"{where}: tasks")
    for key, reader in (("methods", method), ("backbones", backbone)):
        if key in raw:
            read[key] = tuple(reader(each, f"{where}: {key}") for each in values.filled(raw[key], f"{where}: {key}"))
    if "seeds" in raw:
        read["seeds"] = () if raw["seeds"] == [] else values.seeds(raw["seeds"], f"{where}: seeds")
    if "folds" in raw:
        read["folds"] = ALL if raw["folds"] == ALL else values.texts(raw["folds"], f"{where}: folds")
    if "config" in raw:
        read["config"] = {**known.config, **_config(raw["config"], f"{where}: config")}
    if "set" in raw:
        changes = values.mapping(raw["set"], f"{where}: set")
        for key in changes:
            _check_changed(key, f"{where}: set")
        read["changes"] = {**known.changes, **apart(changes)}
    if "grid" in raw:
        read["grid"] = _grid(raw["grid"], f"{where}: grid")
    block = replace(known, **read)
    if both := sorted({*block.changes} & {*apart(block.grid)}):
        raise ElpError(f"{where}: {both[0]} must be either in set or in grid, but is in both; remove one of them")
    return block


def _config(raw: Any, where: str) -> dict[str | None, str]:
    if isinstance(raw, str):
        return {None: values.text(raw, where)}
    named = values.mapping(raw, where)
    return {values.task(key, where): values.text(value, f"{where}.{key}") for key, value in named.items()}


def _grid(raw: Any, where: str) -> dict[str, tuple[Any, ...]]:
    grid = values.mapping(raw, where)
    for key in grid:
        _check_changed(key, where)
    return {key: values.distinct(grid[key], f"{where}.{key}") for key in grid}


def _check_changed(key: Any, where: str) -> None:
    for each in split(str(key)):
        _check_one(each, where)


def _check_one(key: str, where: str) -> None:
    parts = key.split(".")
    if len(parts) < 2 or not all(parts) or parts[0] not in CHANGED:
        hint = did_you_mean(parts[0], CHANGED, then="an example is optimizer.groups.e_adapter")
        raise ElpError(
            f"{where}: a key must be dotted and begin with {', '.join(CHANGED)}, but is {shown(key)}; {hint}"
        )


def _exclusion(raw: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for key, value in raw.items():
        if key not in AXES:
            _check_changed(key, f"{where}: neither one of {', '.join(AXES)} nor a changed key")
        listed = tuple(value) if isinstance(value, list) else (value,)
        found[str(key)] = values.tasks(listed, f"{where}: tasks") if key == "tasks" else listed
    return found


# search ------------------------------------------------------------------------------------------------------------


def _search(raw: Any, plan: Plan) -> Search | None:
    if raw is None:
        if idle := [block.where for block in plan.blocks if block.seeds == ()]:
            raise ElpError(f"{idle[0]}: seeds must list seeds, but is []; that is only of use with a search")
        return None
    where = f"{plan.where}: search"
    raw = values.mapping(raw, where)
    values.check_keys(raw, SEARCH, where)
    if "seeds" not in raw:
        raise ElpError(f"{where}.seeds must list the seeds of the search, but is missing; add for example seeds: [100]")
    seeds = values.seeds(raw["seeds"], f"{where}.seeds")
    if both := sorted({*seeds} & {seed for block in plan.blocks for seed in block.seeds or ()}):
        raise ElpError(
            f"{where}.seeds must differ from seeds, so that the test has fresh ones, but {both[0]} is in both; "
            "change one"
        )
    names = plan.methods
    shared = _grid(raw.get("grid"), f"{where}.grid")
    own = values.mapping(raw.get("methods"), f"{where}.methods")
    values.check_keys(own, names, f"{where}.methods")
    grids = {name: {**shared, **_grid(own.get(name), f"{where}.methods.{name}")} for name in names}
    sizes = {name: math.prod(map(len, grid.values())) for name, grid in grids.items()}
    if names and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{size} for {name}" for name, size in sizes.items())
        raise ElpError(f"{where} must try equally many settings of every method, but tries {listed}; make them equal")
    if max(sizes.values(), default=2) < 2:
        raise ElpError(f"{where} must try at least two settings, but tries 1; add values under grid, or remove search")
    for block in plan.blocks:
        for name, grid in grids.items():
            if both := sorted({*apart(grid)} & {*apart(block.grid), *block.changes}):
                raise ElpError(
                    f"{where}: {both[0]} of {name} must be either searched or set, but is also in set or grid; remove "
                    "one of them"
                )
    return Search(seeds, grids)


def _check_names(plan: Plan) -> None:
    """Refuse two methods or backbones with one name, whose runs could not be told apart."""
    for kind in ("methods", "backbones"):
        known: dict[str, Any] = {}
        for block in plan.blocks:
            listed: tuple[Any, ...] = getattr(block, kind)
            names = [each.name for each in listed]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ElpError(f"{block.where}: {kind} must have different names, but {twice[0]} is there twice")
            for each in listed:
                if known.setdefault(each.name, each) != each:
                    raise ElpError(f"{block.where}: {kind} must have different names, but two are called {each.name}")
