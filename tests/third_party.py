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


#: the oldest example of a method: a learned gain per channel on the FFN's output
SCALE = """
from dataclasses import dataclass

import torch
from torch import nn

from upstream_elp.adapters.primitives import output_site
from upstream_elp.adapters.selection import resolve_layers


class Gain(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.gain


@dataclass(frozen=True)
class Scale:
    layers: str | int | list[int] = "all"

    def check(self, layers, dim, *, where):
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model):
        return len(resolve_layers(self.layers, model.layers)) * model.dim

    def inject(self, target):
        for index in target.select(self.layers):
            site = output_site(target.layer(index), target.family.ffn_output)
            site.adapters["scale"] = Gain(target.dim)
            path = f"{target.layer_path(index)}.{target.family.ffn_output}.adapters.scale"
            target.declare_module("scale", str(index), path)
"""
