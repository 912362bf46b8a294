"""YAML files of users, read as plain values: tags create no objects, no key may appear twice, numbers are numbers.

PyYAML reads YAML 1.1, in which ``1e-2`` is text, ``010`` is 8 and ``1:30`` is 90, which is hardly ever intended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import yaml

from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError
from upstream_elp.base.foreign import recognised

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_OCTAL = re.compile(r"[-+]?0\d+")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that appears twice is an error; by default the last one wins."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


def read_yaml(path: str | os.PathLike, *, name: str | None = None, by_hand: bool = True) -> Any:
    """Read a YAML file without running anything in it.

    Args:
        path: the file.
        name: what to call it in errors; its path by default.
        by_hand: whether a person wrote it; programs write text that looks like a number without quotes.

    Raises:
        ElpError: the file cannot be read, is not YAML, asks for a Python object, contains a key twice, or contains
            a number that YAML reads as something else.
    """
    if found := recognised(path):  # a Git LFS pointer is valid YAML
        raise ElpError(f"{name or path} is not a readable YAML file: {found}")
    text, fault = texts.read(path)
    if fault:
        it = "" if fault.startswith("line ") else "it "
        raise ElpError(f"{name or path} is not a readable YAML file: {it}{fault}")
    try:
        content, misread = parse_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # dates and numbers raise ValueError
        raise ElpError(f"{name or path} is not a readable YAML file: {_reason(error)}") from error
    if misread and by_hand:
        raise ElpError(f"{name or path}: {'; '.join(misread)}")
    return content


def parse_yaml(text: str, *, where: str = "") -> tuple[Any, list[str]]:
    """Return the content of a YAML text, and a sentence for each number that YAML reads as something else.

    Args:
        text: one document.
        where: dotted key of the document, for the sentences.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        return loader.construct_document(node), list(_misread(node, where, set()))
    finally:
        loader.dispose()


def number_of(text: str) -> str | None:
    """Return how to write a number in YAML if the text looks like one to a person; None for any other text."""
    if not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    sign, (mantissa, _, exponent) = text[: text[0] in "+-"], text.lstrip("+-").lower().partition("e")
    whole, dot, rest = mantissa.partition(".")
    whole = str(int(whole or "0"))
    if not exponent:
        return f"{sign}{whole}{dot}{rest}"
    return f"{sign}{whole}.{rest or 0}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"


def _misread(node: yaml.Node, where: str, seen: set[int]) -> Iterator[str]:
    """Walk through a document; an alias may lead back to a parent."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and (fault := _fault(node.value, node.tag)):
            yield f"{where or 'the value'} is {node.value}, {fault}"
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _misread(item, f"{where}[{index}]", seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{where}.{key.value}".lstrip(".") if isinstance(key, yaml.ScalarNode) else where
            yield from _misread(key, f"the key {name}", seen)
            yield from _misread(value, name, seen)


def _fault(text: str, tag: str) -> str | None:
    """Say how YAML reads a number, and how to write it."""
    if tag.endswith(":str") and (number := number_of(text)):
        return f"which YAML reads as text; write {number}, or put it in quotes if you mean text"
    if tag.endswith(":int") and _OCTAL.fullmatch(text):
        return f"which YAML reads as {yaml.safe_load(text)} (base 8); write {number_of(text)}, or put it in quotes"
    if tag.endswith((":int", ":float")) and ":" in text:
        return f"which YAML reads as {yaml.safe_load(text)} (base 60); put it in quotes"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, {' '.join(str(error.problem).split())}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())
