"""Our names in S3PRL: upstreams, downstreams, optimizers, schedulers."""

import importlib
import importlib.util
from types import ModuleType

from upstream_elp.errors import ElpError
from upstream_elp.host import compat
from upstream_elp.host.places import our_tasks_folder

PREFIX = "elp_"
_FACTORIES = {"s3prl.optimizers": "upstream_elp.training.optim", "s3prl.schedulers": "upstream_elp.training.schedulers"}


def register() -> None:
    """Mend S3PRL for this stack and add our names, once per process; every later call does nothing.

    Raises:
        ElpError: if S3PRL has one of our names from somewhere else, or is not the supported version.
    """
    register_worker()
    hub = importlib.import_module("s3prl.hub")
    if _exists("upstream_elp.hubconf"):
        _add(hub, upstreams(importlib.import_module("upstream_elp.hubconf")))
    for target, source in _FACTORIES.items():
        if _exists(source):
            ours = importlib.import_module(source)
            _add(importlib.import_module(target), _public(ours, prefix="get_"))


def register_worker() -> None:
    """What a data-loading process needs: the mended stack and our tasks' folder, without importing all upstreams."""
    compat.install()
    downstream = importlib.import_module("s3prl.downstream")
    folder = str(our_tasks_folder())
    if folder not in downstream.__path__:
        downstream.__path__.append(folder)


def upstreams(hubconf: ModuleType) -> dict[str, object]:
    """Our entries: every public callable of the hubconf whose name begins with ``elp_``."""
    return _public(hubconf, prefix=PREFIX)


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


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
