"""YAML files of users, read as plain values: no tag makes an object, and no key may stand twice."""

from __future__ import annotations

import os
from typing import Any

import yaml

from upstream_elp import texts
from upstream_elp.errors import ElpError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which alone would let the last of two equal keys win."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


def read_yaml(path: str | os.PathLike, *, name: str | None = None) -> Any:
    """Read a YAML file without running anything in it.

    Args:
        path: the file.
        name: what to call it in errors, if not by its path.

    Raises:
        ElpError: a file that cannot be read, is no YAML, asks for a Python object, or states a key twice.
    """
    text, fault = texts.read(path)
    if fault:
        it = "" if fault.startswith("line ") else "it "
        raise ElpError(f"{name or path} is not a readable YAML file: {it}{fault}")
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # dates and numbers raise ValueError
        raise ElpError(f"{name or path} is not a readable YAML file: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, {' '.join(str(error.problem).split())}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())
