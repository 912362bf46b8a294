"""Register our upstreams, downstreams, optimizers and schedulers with S3PRL."""

import importlib
from types import ModuleType

from downstream_heads.contract import FOLDER
from upstream_elp.base import installed
from upstream_elp.base.errors import ElpError
from upstream_elp.host import compat


def register() -> None:
    """Patch S3PRL for current packages and add our names; only the first call in a process does anything.

    Raises:
        ElpError: if S3PRL has one of our names from somewhere else or is not the supported version, or the installed
            packages cannot be imported.
    """
    with installed.imported():
        from upstream_elp.launch import table  # imports torch
        from upstream_elp.training import optimizers, schedulers
        from upstream_elp.upstream import hubconf

        compat.install(table.ITEMS)
        _add_tasks()
        _add(importlib.import_module("s3prl.hub"), upstreams(hubconf))
        for target, ours in (("s3prl.optimizers", optimizers), ("s3prl.schedulers", schedulers)):
            _add(importlib.import_module(target), _public(ours, prefix="get_"))


def register_worker() -> None:
    """Register what a data-loading process needs: the patches and our tasks, without importing all upstreams."""
    compat.install()
    _add_tasks()


def _add_tasks() -> None:
    downstream = importlib.import_module("s3prl.downstream")
    folder = str(FOLDER)
    if folder not in downstream.__path__:
        downstream.__path__.append(folder)


def upstreams(hubconf: ModuleType) -> dict[str, object]:
    """Our upstreams: every public callable of the hubconf."""
    return {name: value for name, value in _public(hubconf, prefix="").items() if not name.startswith("_")}


def _public(module: ModuleType, *, prefix: str) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name.startswith(prefix) and callable(value)}


def _add(module: ModuleType, entries: dict[str, object]) -> None:
    clashes = [name for name, value in entries.items() if getattr(module, name, value) is not value]
    if clashes:
        raise ElpError(
            f"{module.__name__} already has {', '.join(sorted(clashes))} from somewhere else; "
            "remove the other plugin or an older copy of this one"
        )
    vars(module).update(entries)
