"""The plan file of a sweep, read strictly: what is to be run, as products of lists.

A plan says only what differs from the plan that its ``base`` names. Nothing is resolved here: see
:mod:`upstream_elp.sweep.points` for the product and :mod:`upstream_elp.sweep.resolve` for the runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.packaged import recipes_dir
from upstream_elp.base.values import did_you_mean, is_whole
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.sweep import blocks, searching, values
from upstream_elp.sweep import compare as comparing
from upstream_elp.sweep.blocks import BLOCK, Block
from upstream_elp.sweep.names import slug

TEXTS = ("name", "description", "source")
KEYS = (*TEXTS, "base", "data", *BLOCK, "include", "exclude", "search", "compare", "processes")
MERGED = ("set", "grid", "config")


@dataclass(frozen=True)
class Plan:
    """A whole plan.

    Its ``blocks`` are the plan's own product and those under ``include``, ``content`` is what was read, and
    ``processes`` how many train together in each run.
    """

    name: str
    where: str
    blocks: tuple[Block, ...]
    description: str = ""
    source: str = ""
    data: str | None = None
    exclude: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    search: searching.Search | None = None
    compare: comparing.Compare = field(default_factory=comparing.Compare)
    processes: int = 1
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


def _file(place: str | Path, *, folder: Path = Path(), where: str = "") -> Path:
    path, packaged = folder / place, packaged_plans()
    if path.is_file():
        return path
    if str(place) not in packaged:
        hint = did_you_mean(place, packaged, then=f"the packaged plans are: {', '.join(packaged)}")
        raise ElpError(f"{where}{place} must be a file or the name of a packaged plan, but is neither; {hint}")
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
    own = blocks.read({key: raw[key] for key in BLOCK if key in raw}, where, Block(where))
    added = values.entries(raw, "include", where)
    included = [blocks.read(entry, at, replace(own, where=at, grid={})) for at, entry in added]
    plan = Plan(
        name=slug(texts.pop("name", name), f"{where}: name"),
        where=where,
        blocks=(own, *included),
        exclude=tuple(blocks.exclusion(entry, at) for at, entry in values.entries(raw, "exclude", where)),
        content=dict(raw),
        processes=raw.get("processes", 1),
        **texts,
    )
    if not is_whole(plan.processes):
        raise ElpError(f"{where}: processes must be a whole number of at least 1, but is {shown(plan.processes)}")
    _check_names(plan)
    compare = comparing.read(raw.get("compare"), plan.methods, where=f"{where}: compare")
    search = searching.read(raw.get("search"), plan.blocks, where=where)
    return replace(plan, compare=compare, search=search)


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    content = read_yaml(path, name=str(path))
    if not isinstance(content, dict):
        raise ElpError(f"{path} must be a mapping with keys such as tasks and methods, but is {shown(content)}")
    base = content.pop("base", None)
    if base is None:
        return content
    base, seen = values.text(base, f"{path}: base"), (*seen, path.resolve())
    start = _file(base, folder=path.parent, where=f"{path}: base: ")
    if start.resolve() in seen:
        raise ElpError(f"{path}: base must not lead in a circle, but {start} is this plan itself or starts from it")
    merged = {key: value for key, value in _merged(start, seen).items() if key not in TEXTS}
    for key, value in content.items():
        both = key in MERGED and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _check_names(plan: Plan) -> None:
    """Refuse two methods or backbones with one name, whose runs would look the same."""
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
