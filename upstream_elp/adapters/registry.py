"""Methods by name: ours, and those that other packages offer as entry points of the group ``upstream_elp.adapters``.

The name is the method's YAML key and the name of its component. A method's module is imported only when a configuration
names it, so this module does not import torch.
"""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from upstream_elp.adapters.contract import Method
from upstream_elp.base.errors import ElpError
from upstream_elp.base.installed import FAILURES

GROUP = "upstream_elp.adapters"
OURS = {
    "e_adapter": "upstream_elp.adapters.e_adapter:EAdapter",
    "l_adapter": "upstream_elp.adapters.l_adapter:LAdapter",
    "p_adapter": "upstream_elp.adapters.p_adapter:PAdapter",
    "houlsby": "upstream_elp.adapters.houlsby:Houlsby",
    "adapter_bias": "upstream_elp.adapters.adapter_bias:AdapterBias",
    "parallel": "upstream_elp.adapters.parallel:Parallel",
    "deep_prompt": "upstream_elp.adapters.deep_prompt:DeepPrompt",
    "prefix_kv": "upstream_elp.adapters.prefix_kv:PrefixKV",
    "cnn": "upstream_elp.adapters.cnn:CNN",
    "lora": "upstream_elp.adapters.lora:LoRA",
    "layer_norm": "upstream_elp.adapters.layer_norm:LayerNorms",
    "bias": "upstream_elp.adapters.bias:Biases",
}
"""Our methods, in the order of injection."""
LAST = {"encoder": "upstream_elp.adapters.encoder:Encoder"}
"""Injected after all others, including those of other packages: it declares the tensors that they have not declared."""
REQUIRED = ("check", "count", "inject")


@cache
def _entries() -> dict[str, EntryPoint]:
    """Return the entry point of every method by name, in the order of injection."""
    ours, last = ({name: EntryPoint(name, place, GROUP) for name, place in table.items()} for table in (OURS, LAST))
    others: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in ours or entry.name in last or entry.name in others:
            raise ElpError(
                f"the adapter method {entry.name!r} of {entry.value} has a name that is taken; rename it, or uninstall "
                "the package that offers it"
            )
        others[entry.name] = entry
    return {**ours, **dict(sorted(others.items())), **last}


def method_names() -> list[str]:
    """Return the names of all methods in the order of injection."""
    return list(_entries())


@cache
def method_class(name: str) -> type[Method]:
    """Return the class of a method in :func:`method_names`.

    Raises:
        ElpError: it cannot be imported, is not a dataclass, or lacks a part of the contract.
    """
    entry = _entries()[name]
    try:
        found = entry.load()
    except FAILURES as error:
        raise ElpError(
            f"the adapter method {name!r} cannot be imported from {entry.value}: {error}; correct or uninstall the "
            "package that offers it"
        ) from error
    if lacking := [part for part in REQUIRED if not _defines(found, part)]:
        raise ElpError(f"the adapter method {name!r} ({entry.value}) does not define {', '.join(lacking)}")
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise ElpError(f"the adapter method {name!r} ({entry.value}) is not a dataclass")
    return found if issubclass(found, Method) else _with_defaults(found)


def _defines(found: object, part: str) -> bool:
    value = getattr(found, part, None)
    return callable(value) and not getattr(value, "__isabstractmethod__", False)


def _with_defaults(cls: type) -> type[Method]:
    """Return the same class with the contract's defaults for what it does not define."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return types.new_class(cls.__name__, (cls, Method), exec_body=lambda namespace: namespace.update(names))
