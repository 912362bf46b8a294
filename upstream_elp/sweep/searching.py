"""The block ``search`` of a plan: what every method may try on dev, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean, is_whole
from upstream_elp.sweep import changes, ranges, values
from upstream_elp.sweep.blocks import Block
from upstream_elp.sweep.names import apart
from upstream_elp.sweep.ranges import Space

SEARCH = ("seeds", "grid", "methods", "engine", "trials", "batch", "sampler_seed")
SAMPLED = ("trials", "batch", "sampler_seed")
"""Keys that only a search with an engine that proposes settings has."""
GRID, OPTUNA = ENGINES = ("grid", "optuna")
BATCH = 5
MOST = 1000
"""The largest number of trials."""


@dataclass(frozen=True)
class Search:
    """A search on dev before the test.

    Args:
        seeds: the seeds of the search.
        spaces: what each method may try, by its name; without an engine that proposes settings, only lists.
        engine: :data:`GRID` tries everything; :data:`OPTUNA` proposes settings from the results of earlier ones.
        trials: how many settings are tried of each method.
        batch: how many settings are proposed at a time, without knowing each other's results.
        sampler_seed: seed of the proposals.
    """

    seeds: tuple[int, ...]
    spaces: Mapping[str, Space]
    engine: str = GRID
    trials: int = 0
    batch: int = BATCH
    sampler_seed: int = 0


def read(raw: Any, blocks: Sequence[Block], *, where: str) -> Search | None:
    """Read the block.

    Args:
        raw: its content; None without one.
        blocks: the plan's blocks.
        where: what to call the plan in messages.

    Raises:
        ElpError: an unknown key or a wrong value, or a search that is not equal for all methods.
    """
    if raw is None:
        if idle := [block.where for block in blocks if block.seeds == ()]:
            raise ElpError(f"{idle[0]}: seeds must list seeds, but is []; that is only of use with a search")
        return None
    where = f"{where}: search"
    raw = values.mapping(raw, where)
    values.check_keys(raw, SEARCH, where)
    engine = raw.get("engine", GRID)
    if engine not in ENGINES:
        hint = did_you_mean(engine, ENGINES, then="correct it")
        raise ElpError(f"{where}.engine must be {' or '.join(ENGINES)}, but is {shown(engine)}; {hint}")
    seeds = _seeds(raw, blocks, where)
    spaces = _spaces(raw, blocks, where, engine)
    _check_twice(spaces, blocks, where)
    if engine == GRID:
        if idle := [key for key in SAMPLED if key in raw]:
            raise ElpError(f"{where}.{idle[0]} must go with engine: optuna, but the engine is grid; remove one of them")
        return Search(seeds, spaces, trials=_size(spaces, where))
    return _sampled(raw, seeds, spaces, where)


def _seeds(raw: Mapping[str, Any], blocks: Sequence[Block], where: str) -> tuple[int, ...]:
    if "seeds" not in raw:
        raise ElpError(f"{where}.seeds must list the seeds of the search, but is missing; add for example seeds: [100]")
    seeds = values.seeds(raw["seeds"], f"{where}.seeds")
    if both := sorted({*seeds} & {seed for block in blocks for seed in block.seeds or ()}):
        raise ElpError(
            f"{where}.seeds must differ from seeds, so that the test has fresh ones, but {both[0]} is in both; "
            "change one"
        )
    return seeds


def _spaces(raw: Mapping[str, Any], blocks: Sequence[Block], where: str, engine: str) -> dict[str, Space]:
    """What each method may try."""
    names = list(dict.fromkeys(each.name for block in blocks for each in block.methods))
    own = values.mapping(raw.get("methods"), f"{where}.methods")
    values.check_keys(own, names, f"{where}.methods")
    listed = {f"{where}.grid": raw.get("grid"), **{f"{where}.methods.{name}": own.get(name) for name in own}}
    for place, block in listed.items() if engine == GRID else ():
        for key, value in values.mapping(block, place).items():
            if isinstance(value, Mapping):
                raise ElpError(f"{place}.{key} must be a list, but is a range, which needs engine: optuna; add it")
    reader = changes.grid if engine == GRID else ranges.read
    shared = reader(raw.get("grid"), f"{where}.grid")
    return {name: {**shared, **reader(own.get(name), f"{where}.methods.{name}")} for name in names}


def _size(spaces: Mapping[str, Space], where: str) -> int:
    """The number of settings of a grid, which is the same for every method."""
    sizes = {name: math.prod(map(len, space.values())) for name, space in spaces.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{size} for {name}" for name, size in sizes.items())
        raise ElpError(f"{where} must try equally many settings of every method, but tries {listed}; make them equal")
    if max(sizes.values(), default=2) < 2:
        raise ElpError(f"{where} must try at least two settings, but tries 1; add values under grid, or remove search")
    return max(sizes.values(), default=0)


def _sampled(raw: Mapping[str, Any], seeds: tuple[int, ...], spaces: Mapping[str, Space], where: str) -> Search:
    """A search whose settings are proposed: as many trials of every method."""
    known = {"batch": BATCH, "sampler_seed": 0, **{key: raw[key] for key in SAMPLED if key in raw}}
    for key, least, most in (("trials", 2, MOST), ("batch", 1, MOST), ("sampler_seed", 0, 2**32 - 1)):
        value = known.get(key)
        if not is_whole(value, least=least) or value > most:
            raise ElpError(f"{where}.{key} must be a whole number from {least} to {most}, but is {shown(value)}")
    for name, space in spaces.items():
        if not space:
            raise ElpError(
                f"{where} must try equally many settings of every method, but has nothing to try for {name}; add its "
                f"keys under methods.{name}, or keys for all under grid"
            )
        if (there := ranges.count(space)) < known["trials"]:
            raise ElpError(
                f"{where}.trials must be at most the number of settings of each method, but is {known['trials']} and "
                f"{name} has only {there:g}; lower it, or widen the lists and ranges"
            )
    return Search(seeds, spaces, OPTUNA, **known)


def _check_twice(spaces: Mapping[str, Space], blocks: Sequence[Block], where: str) -> None:
    """Refuse keys that are searched and also set, or searched in two ways."""
    for name, space in spaces.items():
        single = [each for key in space for each in apart({key: None})]
        if twice := [key for key in single if single.count(key) > 1]:
            raise ElpError(f"{where}: {twice[0]} of {name} must be searched once, but is there twice; remove one")
        for block in blocks:
            if both := sorted({*single} & {*apart(block.grid), *block.changes}):
                raise ElpError(
                    f"{where}: {both[0]} of {name} must be either searched or set, but is also in set or grid; remove "
                    "one of them"
                )
