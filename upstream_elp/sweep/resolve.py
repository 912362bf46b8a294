"""From cells to runs: resolve the adapter and the task configuration of each, and check everything before a run starts.

The checks are those of ``elp run`` and ``elp check``, once for all runs that share their object.
"""

from __future__ import annotations

import copy
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downstream_heads import registry
from downstream_heads.common.survey import Survey
from downstream_heads.stock import STOCK
from upstream_elp.adapters.config import GENERAL, AdapterConfig, parse_config
from upstream_elp.audio.headers import Options
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean
from upstream_elp.launch import arguments, blocks, recipes
from upstream_elp.launch import data as launch_data
from upstream_elp.launch.chosen import ChosenAdapter
from upstream_elp.sweep import contents, identity, names, stock
from upstream_elp.sweep.jobs import FINAL, SEARCH, Job
from upstream_elp.sweep.points import Cell

OUTSIDE = ("head", "featurizer")
"""Groups of the optimizer that do not belong to the adapter."""


class Resolver:
    """Turns cells into jobs; what several cells share is read and checked once.

    Args:
        out: folder of the sweep.
        data: folder of the corpora; None if the task configurations name them.
        several: whether the plan has several backbones, which folders are then named after.
        processes: how many train together in each run.
    """

    def __init__(self, out: Path, data: str | None, *, several: bool, processes: int = 1) -> None:
        self.out, self.data, self.several, self.processes = out, data, several, processes
        self._backbones: dict[Any, str] = {}
        self._surveys: dict[str, dict[str, Any]] = {}
        self._contents: dict[tuple[Path, str], str] = {}

    def jobs(self, cell: Cell, stage: str = FINAL) -> list[Job]:
        """The jobs of a cell, one per seed.

        Raises:
            ElpError: a configuration that ``elp run`` would refuse, a change without effect, missing or broken data,
                or a search without a dev set.
        """
        adapter = _adapter(cell)
        config = _config(cell, adapter)
        data = self._fingerprint(cell, config, stage)
        upstream = cell.method.upstream or cell.backbone.upstream
        described = None if adapter is None else adapter.to_dict()
        shared = {
            "task": cell.task, "fold": cell.fold, "upstream": cell.method.upstream, "adapter": described,
            "backbone": self._backbone(cell), "data": data, "config": config,
            "processes": self.processes,
        }  # fmt: skip
        found = []
        for seed in cell.seeds:
            key = identity.identity(seed=seed, **shared)
            # a search's run is never tested, so it is not the same as the final run of the same configuration
            folder = self.out / ("search" if stage == SEARCH else "runs") / registry.described(cell.task).short
            parts = (cell.method.name, names.written({**cell.varied, **cell.searched}), cell.fold or "", f"seed{seed}")
            backbone = cell.backbone.name if cell.backbone and self.several else ""
            job = Job(
                key=key,
                folder=str(_folder(folder, names.folder_name(*parts, backbone, key=key), key)),
                stage=stage,
                task=cell.task,
                method=cell.method.name,
                upstream=upstream,
                seed=seed,
                config=config,
                adapter=described,
                place=_absolute(cell.backbone.place) if cell.backbone else None,
                backbone=cell.backbone.name if cell.backbone else None,
                fold=cell.fold,
                data=self.data,
                varied=dict(cell.varied),
                searched=dict(cell.searched),
                processes=self.processes,
            )
            found.append(job)
        return found

    def _backbone(self, cell: Cell) -> str | None:
        if cell.backbone is None:
            return None
        if cell.backbone not in self._backbones:
            self._backbones[cell.backbone] = identity.backbone_content(cell.backbone)
        return self._backbones[cell.backbone]

    def _fingerprint(self, cell: Cell, config: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """Check the data of a cell, and return the fingerprint of each split."""
        place = None if cell.backbone is None else (cell.backbone.upstream, cell.backbone.place)
        key = json.dumps([cell.task, cell.fold, place, config["downstream_expert"]], sort_keys=True, default=str)
        if key not in self._surveys:
            listed = cell.task in STOCK
            self._surveys[key] = stock.listed(cell, config) if listed else self._prints(_surveyed(cell, config))
        if stage == SEARCH:
            _check_dev(cell, config, self._surveys[key])
        return self._surveys[key]

    def _prints(self, found: Survey) -> dict[str, dict[str, Any]]:
        """What the identity of a run depends on in each split: files, their content, and tables."""
        from upstream_elp.training.datafiles import data_fingerprint

        prints = {}
        for part in found.parts:
            known = (found.root, identity.digest(part.files))
            if known not in self._contents:
                self._contents[known] = contents.sample(found.root, part.files)
            files = data_fingerprint(found.root / file for file in part.files)
            tables = identity.digest([part.files, part.speakers, part.classes, part.answers])
            prints[part.name] = {**files, "tables": tables, "audio": self._contents[known]}
        return prints


def _adapter(cell: Cell) -> AdapterConfig | None:
    """The cell's adapter with its changes."""
    changes = {key: value for key, value in cell.values.items() if key.startswith("adapter.")}
    config = cell.method.config
    if config is None:
        if changes:
            raise _without_effect(cell, next(iter(changes)), "is one of S3PRL's upstreams and has no adapter")
        return None
    if not changes:
        return config
    raw = config.to_dict()
    for key, value in changes.items():
        parts = key.split(".")[1:]
        if parts[0] not in (*GENERAL, *config.methods):
            hint = did_you_mean(parts[0], config.methods, then=f"it has {', '.join(config.methods) or 'no method'}")
            raise _without_effect(cell, key, f"has no {parts[0]} ({hint})")
        _put(raw, parts, value, where=f"{cell.where}: {key}")
    return parse_config(raw, where=f"{cell.where}: {cell.method.name}", name=config.name)


def _config(cell: Cell, adapter: AdapterConfig | None) -> dict[str, Any]:
    """The cell's task configuration, with its bases, the adapter's learning rates and the changes merged."""
    about = registry.described(cell.task)
    named = None if cell.config is None else cell.config.replace("{task}", about.short)
    try:
        path = arguments.config(Namespace(config=named, downstream=about.command), None)
        chosen = ChosenAdapter(cell.method.upstream or "elp_local", names=cell.method.names, config=adapter)
        content = copy.deepcopy(recipes.read_for(path, chosen))
    except ElpError as error:
        raise ElpError(f"{cell.where}: config: {error}") from error
    for key, value in cell.values.items():
        parts = key.split(".")
        if parts[:2] == ["optimizer", "groups"] and len(parts) == 3:
            _check_group(cell, key, parts[2], adapter)
        if parts[0] != "adapter":
            _put(content, parts, copy.deepcopy(value), where=f"{cell.where}: {key}")
    if cell.task not in STOCK:
        _check_head(cell, content)
    blocks.check(content, where=f"{cell.where}: {cell.title}", ours=cell.task not in STOCK)
    return content


def _put(content: dict[str, Any], parts: Sequence[str], value: Any, *, where: str) -> None:
    block = content
    for part in parts[:-1]:
        if block.get(part) is None:
            block[part] = {}
        block = block[part]
        if not isinstance(block, dict):
            raise ElpError(f"{where}: {part} must be a block of keys, but is the value {block!r}; correct the key")
    block[parts[-1]] = value


def _check_group(cell: Cell, key: str, group: str, adapter: AdapterConfig | None) -> None:
    trained = (*OUTSIDE, *(adapter.methods if adapter is not None else ()))
    if group not in trained and key not in cell.changes:  # under set, it is for whichever methods have it
        hint = did_you_mean(group, trained, then=f"it trains {', '.join(trained)}")
        raise _without_effect(cell, key, f"has no {group} ({hint})")


def _check_head(cell: Cell, content: Mapping[str, Any]) -> None:
    """Refuse keys of the head that no configuration of the task has."""
    known = recipes.read(registry.described(cell.task).config)["downstream_expert"]["modelrc"]
    for key in cell.values:
        parts = key.split(".")
        if parts[:2] == ["downstream_expert", "modelrc"] and len(parts) > 2 and parts[2] not in known:
            hint = did_you_mean(parts[2], known, then=f"its keys are {', '.join(known)}")
            raise ElpError(f"{cell.where}: {key} must be a key of {cell.task}'s head, but is unknown; {hint}")


def _without_effect(cell: Cell, key: str, why: str) -> ElpError:
    return ElpError(
        f"{cell.where}: {key} must fit every method, but {cell.method.name} {why}; move the key into an entry of "
        "include with its own methods (or under search.methods)"
    )


# data --------------------------------------------------------------------------------------------------------------


def _surveyed(cell: Cell, config: Mapping[str, Any]) -> Survey:
    from upstream_elp.upstream.build import front_end

    front = launch_data.OTHER_UPSTREAM
    if cell.backbone is not None:
        front = front_end(cell.backbone.upstream.removeprefix("elp_"), cell.backbone.place)
    try:
        launch_data.refuse_idle(cell.task, config, named=cell.values)
        found = launch_data.examine(cell.task, config, variant=cell.fold, front=front, options=Options(progress=True))
        launch_data.refuse(found, cell.task, skip_bad_files=settings.current().skip_bad_files)
    except ElpError as error:
        raise ElpError(f"{cell.where}: {cell.title}: {error}") from error
    return found.survey


def _check_dev(cell: Cell, config: Mapping[str, Any], prints: Mapping[str, Any]) -> None:
    """Refuse a search that has no dev set, or whose runs do not choose their checkpoint on it."""
    dev = registry.described(cell.task).split("dev")
    evaluated = config["runner"]["eval_dataloaders"]
    if dev not in evaluated:
        raise ElpError(
            f"{cell.where}: search: runner.eval_dataloaders of {cell.title} must contain {dev}, but is {evaluated}; a "
            "search needs a dev set"
        )
    if cell.task not in STOCK and not prints.get(dev, {}).get("files"):
        raise ElpError(
            f"{cell.where}: search: {cell.title} must have a dev set, but its protocol evaluates test instead; set a "
            "protocol with a dev set, or remove search"
        )


def _folder(parent: Path, name: str, key: str) -> Path:
    """The run's folder: an existing one of the same identity, which may have another readable part, or a new one."""
    return next(iter(sorted(parent.glob(f"*-{key[: names.HASH]}"))), parent / name)


def _absolute(place: str | None) -> str | None:
    return str(Path(place).absolute()) if place is not None and Path(place).exists() else place
