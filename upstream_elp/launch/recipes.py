"""Task configurations that state only what differs.

``base`` names what a file starts from: a packaged task (``elp_asr`` or ``asr``), a recipe of ``recipes/tasks``
(``asr_reference``) or another file, relative to this one. Blocks are merged key by key; a block whose ``name`` is
another one (of an optimizer, a scheduler) replaces the base's, as its keys mean something else. ``methods`` holds what
differs by adapter preset, such as the learning rates; the entry of the run's own adapter is merged last.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.adapters.config import lineage, load_config, recipes_dir
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.files import whole_file
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.launch import blocks

ADAPTER_FILE = "adapter_config.yaml"
MERGED = "merged_config.yaml"


def names() -> dict[str, Path]:
    """What ``base`` may name: our tasks' own configurations, then the recipes."""
    tasks = {name: task.config for name, task in registry.tasks().items()}
    return {**tasks, **{path.stem: path for path in sorted((recipes_dir() / "tasks").glob("*.yaml"))}}


def read(path: Path, args: Namespace | None = None) -> dict[str, Any]:
    """Read a task configuration with everything it starts from.

    Args:
        path: the file.
        args: the run's flags, which say the adapter; None leaves ``methods`` in.

    Raises:
        ElpError: no YAML mapping, an unknown base, bases in a circle, or nothing for this run's adapter.
    """
    content = _merged(Path(path), seen=())
    if args is None or "methods" not in content:
        return content
    methods = content.pop("methods")
    if not isinstance(methods, dict) or not all(isinstance(value, dict) for value in methods.values()):
        raise ElpError(f"-c {path}: methods must be a block of blocks, one per adapter preset")
    known = adapter_names(args)
    chosen = next((name for name in known if name in methods), None)
    if chosen is None:
        adapter = f"the adapter {known[0]}" if known else f"-u {args.upstream}, which has no adapters"
        raise ElpError(
            f"-c {path} says nothing for {adapter}; it has methods for {', '.join(methods)}; for another one write a "
            f"file with 'base: {path.stem}' and an entry of its own under methods"
        )
    content = merge(content, methods[chosen])
    if args.upstream_ckpt is None or not Path(args.upstream_ckpt, ADAPTER_FILE).is_file():
        _check_rates(content, load_config(args.upstream_model_config).methods, where=f"-c {path}: methods.{chosen}")
    return content


def differs(path: Path) -> bool:
    """Whether S3PRL cannot read the file as it stands, because it has a base or methods."""
    return bool({"base", "methods"} & set(_raw(path)))


def write(folder: Path, path: Path, args: Namespace) -> Path:
    """Write the merged configuration into the experiment folder, for S3PRL to read."""
    text = yaml.safe_dump(read(path, args), sort_keys=False, width=100)
    with whole_file(folder / MERGED, encoding="utf-8") as file:
        file.write(f"# {path} with everything it starts from\n{text}")
    return folder / MERGED


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, block by block."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = merge(old, value) if both and value.get("name", old.get("name")) == old.get("name") else value
    return merged


def adapter_names(args: Namespace) -> Sequence[str]:
    """The names under which ``methods`` may hold the run's adapter, the first one found counts; none if it has none."""
    if not str(args.upstream).startswith("elp_"):
        return []
    trained = Path(args.upstream_ckpt, ADAPTER_FILE) if args.upstream_ckpt else None
    if trained is not None and trained.is_file():
        described = read_yaml(trained, by_hand=False)
        adapter = described.get("adapter") if isinstance(described, dict) else None
        return [str(adapter["name"])] if isinstance(adapter, dict) and "name" in adapter else [str(trained.parent)]
    return lineage(args.upstream_model_config)


def _check_rates(content: dict[str, Any], methods: dict[str, Any], *, where: str) -> None:
    """Refuse an adapter of which a part would be trained at the head's learning rate, because none is stated for it."""
    optimizer = content.get("optimizer")
    groups = optimizer.get("groups") if isinstance(optimizer, dict) else None
    if not isinstance(groups, dict):
        return
    if absent := [method for method in methods if method not in groups]:
        raise ElpError(f"{where}.optimizer.groups states no learning rate for {', '.join(absent)}, which -g trains")


def _raw(path: Path) -> dict[str, Any]:
    content = read_yaml(path, name=f"-c {path}")
    if not isinstance(content, dict):
        raise ElpError(f"-c {path}: no mapping; a task config has the blocks {', '.join(blocks.TOP_LEVEL)}")
    return content


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    content = _raw(path)
    base = content.pop("base", None)
    if base is None:
        return content
    seen = (*seen, path.resolve())
    start = _find(base, path)
    if start.resolve() in seen:
        raise ElpError(f"-c {path}: 'base' runs in a circle: {' -> '.join(p.name for p in (*seen, start))}")
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
