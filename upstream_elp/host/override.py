"""S3PRL's ``-o`` option, with literals instead of evaluated Python.

``args.NAME=VALUE,,config.PATH.TO.KEY=VALUE``: values are Python or YAML literals (numbers, quoted strings, lists,
mappings, ``true``, ``null``), anything else is a string. Only the first ``=`` of an assignment separates.
"""

import ast
import difflib
from argparse import Namespace
from typing import Any

import yaml

from upstream_elp.errors import ElpError

_WORDS = {"true": True, "false": False, "null": None, "~": None}


def override(string: str, args: Namespace, config: dict) -> None:
    """Apply an override string in place; takes the place of ``s3prl.utility.helper.override``.

    Raises:
        ElpError: naming the assignment that is malformed, or the argument that does not exist.
    """
    for keys, value in parse(string):
        if keys[0] == "args":
            _set_argument(args, keys, value)
        else:
            _set_config(config, keys, value)


def parse(string: str) -> list[tuple[list[str], Any]]:
    """Split an override string into pairs of key path and value.

    Raises:
        ElpError: if an assignment has no ``=``, or does not begin with ``args.`` or ``config.``.
    """
    pairs = []
    for assignment in filter(None, (part.strip() for part in string.split(",,"))):
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or keys[0] not in ("args", "config") or len(keys) < 2 or not all(keys):
            raise ElpError(
                f"-o: {assignment!r} is no assignment; write args.NAME=VALUE or config.PATH.TO.KEY=VALUE, "
                "several of them joined by ,,"
            )
        pairs.append((keys, literal(text.strip())))
    return pairs


def literal(text: str) -> Any:
    """Read a value: a Python literal, a YAML list or mapping, a YAML word, otherwise the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates raise ValueError
            raise ElpError(f"-o: cannot read the value {text!r}: unbalanced brackets or quotes") from error
    return text


def _set_argument(args: Namespace, keys: list[str], value: Any) -> None:
    name = ".".join(keys[1:])
    if name not in vars(args):
        close = difflib.get_close_matches(name, vars(args), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"the arguments are: {', '.join(sorted(vars(args)))}"
        raise ElpError(f"-o: there is no argument {name!r}; {hint}")
    setattr(args, name, value)


def _set_config(config: dict, keys: list[str], value: Any) -> None:
    block = config
    for depth, key in enumerate(keys[1:-1], start=2):
        block = block.setdefault(key, {})
        if not isinstance(block, dict):
            raise ElpError(f"-o: {'.'.join(keys[:depth])} is a value in the config, not a block of keys")
    block[keys[-1]] = value
