"""S3PRL's ``-o`` option, with literals instead of evaluated Python.

``args.NAME=VALUE,,config.PATH.TO.KEY=VALUE``: values are Python or YAML literals (numbers, quoted strings, lists,
mappings, ``true``, ``null``), and anything else is a string. Only the first ``=`` of an assignment is a separator, and
``,,`` in quotes is not. Arguments that S3PRL takes literally, such as a folder, remain text: ``[12]`` is not a list
there.
"""

import ast
from argparse import Namespace
from typing import Any

import yaml

from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean
from upstream_elp.base.yaml_files import parse_yaml
from upstream_elp.host import flags

_WORDS = {"true": True, "false": False, "null": None, "~": None}


def override(string: str, args: Namespace, config: dict) -> None:
    """Apply an override string in place; replaces ``s3prl.utility.helper.override``.

    Raises:
        ElpError: naming the malformed assignment or the unknown argument.
    """
    for keys, value in parse(string):
        if keys[0] == "args":
            _set_argument(args, keys, value)
        else:
            _set_config(config, keys, value)


def parse(string: str) -> list[tuple[list[str], Any]]:
    """Split an override string into pairs of key path and value.

    Raises:
        ElpError: if an assignment has no ``=`` or does not begin with ``args.`` or ``config.``.
    """
    pairs = []
    for assignment in _assignments(string):
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or keys[0] not in ("args", "config") or len(keys) < 2 or not all(keys):
            raise ElpError(
                f"-o: {assignment!r} is not an assignment; write args.NAME=VALUE or config.PATH.TO.KEY=VALUE, "
                "separate several with ,, and put values that contain ,, in quotes"
            )
        pairs.append((keys, _value(key.strip(), text.strip())))
    return pairs


def _assignments(string: str) -> list[str]:
    """Split at each ``,,`` that is not inside a value in quotes or brackets."""
    parts, found = string.split(",,"), []
    while parts:
        heads = (",,".join(parts[:count]).strip() for count in range(1, len(parts) + 1))
        taken = next((count for count, head in enumerate(heads, start=1) if _whole(head.partition("=")[2].strip())), 1)
        found.append(",,".join(parts[:taken]).strip())
        del parts[:taken]
    return [assignment for assignment in found if assignment]


def _whole(text: str) -> bool:
    """Whether the quote or bracket at the beginning of a value, if any, is closed."""
    if text[:1] not in ("'", '"', "[", "{"):
        return True
    try:
        return literal(text) != text
    except ElpError:
        return False


def _value(key: str, text: str) -> Any:
    if key.removeprefix("args.") not in flags.texts() or not key.startswith("args."):
        return literal(text, where=key)
    try:
        value = literal(text)
    except ElpError:
        return text
    return value if value is None or isinstance(value, str) else text


def literal(text: str, *, where: str = "") -> Any:
    """Read a value: a Python literal, a YAML list, mapping or word, or otherwise the text itself.

    Args:
        text: the text as the user wrote it.
        where: dotted key of the value, for messages.

    Raises:
        ElpError: a list or mapping that cannot be read, or contains a number that YAML reads as something else.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text[:1] in ("[", "{"):
        try:
            value, misread = parse_yaml(text, where=where)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates raise ValueError
            raise ElpError(f"-o: cannot read the value {text!r}; check its brackets and quotes") from error
        if misread:
            raise ElpError(f"-o: {'; '.join(misread)}")
        return value
    return text


def _set_argument(args: Namespace, keys: list[str], value: Any) -> None:
    name = ".".join(keys[1:])
    if name not in vars(args):
        hint = did_you_mean(name, vars(args), most=3) or f"the arguments are: {', '.join(sorted(vars(args)))}"
        raise ElpError(f"-o: unknown argument {name!r}; {hint}")
    setattr(args, name, value)


def _set_config(config: dict, keys: list[str], value: Any) -> None:
    block = config
    for depth, key in enumerate(keys[1:-1], start=2):
        block = block.setdefault(key, {})
        if not isinstance(block, dict):
            raise ElpError(f"-o: {'.'.join(keys[:depth])} is a value in the config, not a block of keys")
    block[keys[-1]] = value


def overridden(assignments: str | None, *, block: str = "args") -> set[str]:
    """The names of the arguments that an ``-o`` string sets, or with ``block="config"`` the keys of the config."""
    if not assignments or assignments.lower() == "none":
        return set()
    return {".".join(keys[1:]) for keys, _ in parse(assignments) if keys[0] == block}
