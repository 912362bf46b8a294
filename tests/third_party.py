"""Packages that offer adapter methods: a module and an entry point each, as pip would install them."""

import sys
import textwrap
from pathlib import Path

from upstream_elp.adapters import registry


def install(folder: Path, code: str, entry: str) -> None:
    """Write a package with one module into a folder on Python's path.

    Args:
        folder: the folder of packages.
        code: code of the module.
        entry: entry point, such as ``scale = elp_scale:Scale``.
    """
    module = entry.partition("=")[2].partition(":")[0].strip()
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry}\n")
    forget(module)


def forget(*modules: str) -> None:
    """Let the registry search again, and import the modules again."""
    registry._entries.cache_clear()
    registry.method_class.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)
