"""Task configurations that state only what differs.

``base`` names the configuration that a file starts from: a packaged task (``elp_asr`` or ``asr``), a recipe in
``recipes/tasks`` (``asr_reference``) or another file, relative to this one. Blocks are merged key by key, but a block
with another ``name`` (of an optimizer or a scheduler) replaces the base's, since its keys mean something else.
``methods`` contains what differs by adapter preset or S3PRL upstream, such as learning rates; the entry for the run's
method is merged last. Without such an entry, that of ``others`` is, if there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.adapters.config import recipes_dir
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.files import whole_file
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.launch import blocks
from upstream_elp.launch.chosen import ChosenAdapter

MERGED = "merged_config.yaml"
OTHERS = "others"
"""The entry of ``methods`` for all that have none of their own."""


def names() -> dict[str, Path]:
    """The names that ``base`` accepts: our tasks' own configurations, then the recipes."""
    tasks = {name: task.config for name, task in registry.tasks().items()}
    return {**tasks, **{path.stem: path for path in sorted((recipes_dir() / "tasks").glob("*.yaml"))}}


def read(path: Path) -> dict[str, Any]:
    """Read a task configuration with its bases merged; ``methods`` is kept.

    Raises:
        ElpError: not a YAML mapping, an unknown base, or a circle of bases.
    """
    return _merged(Path(path), seen=())


def read_for(path: Path, adapter: ChosenAdapter) -> dict[str, Any]:
    """Read a task configuration for one adapter; see :func:`read` and :func:`for_adapter`."""
    return for_adapter(read(path), adapter, path=path)


def for_adapter(content: dict[str, Any], adapter: ChosenAdapter, *, path: Path) -> dict[str, Any]:
    """A task configuration for one adapter.

    Args:
        content: what :func:`read` returned.
        adapter: the run's adapter.
        path: where the content comes from, for errors.

    Raises:
        ElpError: ``methods`` is not a block of blocks, or has no entry for this adapter or a part of it.
    """
    if "methods" not in content:
        return content
    content = dict(content)
    methods = content.pop("methods")
    if not isinstance(methods, dict) or not all(isinstance(value, dict) for value in methods.values()):
        raise ElpError(f"-c {path}: methods must be a block of blocks, one per adapter preset")
    known = adapter.names
    chosen = next((name for name in (*(known or (adapter.upstream,)), OTHERS) if name in methods), None)
    if chosen is None:
        what = f"the adapter {known[0]}" if known else f"-u {adapter.upstream}, which has no adapters"
        raise ElpError(
            f"-c {path} has no entry for {what} under methods, only for {', '.join(methods)}; write a file with "
            f"'base: {path.stem}' and add an entry under methods, or {OTHERS}: {{}} for all"
        )
    content = merge(content, methods[chosen])
    if adapter.config is not None and chosen != OTHERS:
        _check_rates(content, adapter.config.methods, where=f"-c {path}: methods.{chosen}")
    return content


def differs(path: Path) -> bool:
    """Whether S3PRL cannot read the file as it is, because it has a base or methods."""
    return bool({"base", "methods"} & set(_raw(path)))


def write(folder: Path, path: Path, content: dict[str, Any]) -> Path:
    """Write a file's content for this run into the experiment folder, for S3PRL to read."""
    text = yaml.safe_dump(content, sort_keys=False, width=100)
    with whole_file(folder / MERGED, encoding="utf-8") as file:
        file.write(f"# {path} with its bases merged\n{text}")
    return folder / MERGED


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge ``changes`` into ``base``, block by block."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = merge(old, value) if both and value.get("name", old.get("name")) == old.get("name") else value
    return merged


def _check_rates(content: dict[str, Any], methods: dict[str, Any], *, where: str) -> None:
    """Refuse an adapter with a part that has no learning rate of its own and would train at the head's."""
    optimizer = content.get("optimizer")
    groups = optimizer.get("groups") if isinstance(optimizer, dict) else None
    if not isinstance(groups, dict):
        return
    if absent := [method for method in methods if method not in groups]:
        raise ElpError(
            f"{where}.optimizer.groups has no learning rate for {', '.join(absent)}, which -g trains; add it"
        )


def _raw(path: Path) -> dict[str, Any]:
    content = read_yaml(path, name=f"-c {path}")
    if not isinstance(content, dict):
        raise ElpError(f"-c {path}: not a mapping; a task config has the blocks {', '.join(blocks.TOP_LEVEL)}")
    return content


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    content = _raw(path)
    base = content.pop("base", None)
    if base is None:
        return content
    seen = (*seen, path.resolve())
    start = _find(base, path)
    if start.resolve() in seen:
        raise ElpError(f"-c {path}: 'base' leads in a circle: {' -> '.join(p.name for p in (*seen, start))}")
    return merge(_merged(start, seen), content)


def _find(base: Any, path: Path) -> Path:
    known = names()
    if isinstance(base, str) and base in known:
        return known[base]
    if isinstance(base, str) and (path.parent / base).is_file():
        return path.parent / base
    if isinstance(base, str) and (task := registry.whole_name(base)) in known:
        return known[task]
    raise ElpError(f"-c {path}: unknown base {shown(base)}; name one of {', '.join(known)}, or a file")
