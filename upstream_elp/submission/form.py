"""The fields of the site's form, their limits, and ``form.yaml``, which holds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.files import write_text
from upstream_elp.base.values import did_you_mean, mapping
from upstream_elp.base.yaml_files import read_yaml

MOST_COUNT = 2**64 - 1
"""The site stores counts as unsigned 64-bit numbers."""


@dataclass(frozen=True)
class Field:
    """One field of the form.

    Attributes:
        text: what belongs into it.
        fault: what a value must be if it is wrong; an empty string for a right one.
        required: whether the site refuses an empty one.
        default: its value in a new form.
    """

    text: str
    fault: Callable[[str], str]
    required: bool = True
    default: str = ""


def _at_most(length: int) -> Callable[[str], str]:
    return lambda value: "" if len(value) <= length else f"at most {length} characters long"


def _count(value: str) -> str:
    right = re.fullmatch(r"\d+", value, re.ASCII) and int(value) <= MOST_COUNT
    return "" if right else "a whole number below 2^64"


def _short_count(value: str) -> str:
    return "" if re.fullmatch(r"\d{1,100}", value, re.ASCII) else "a whole number of at most 100 digits"


def _stride(value: str) -> str:
    return "" if re.fullmatch(r"\d{1,3}", value, re.ASCII) and int(value) <= 100 else "a whole number from 0 to 100"


def _url(value: str) -> str:
    try:
        right = urlsplit(value).hostname == "github.com"
    except ValueError:
        right = False
    return "" if right else "an address on github.com"


def _track(value: str) -> str:
    return "" if value in ("1", "2", "3") else "1 (constrained), 2 (less constrained) or 3 (unconstrained)"


FIELDS: Mapping[str, Field] = {
    "submitName": Field("name of the method, at most 20 characters", _at_most(20)),
    "modelURL": Field("page of the model on github.com, or empty", _url, required=False),
    "modelDesc": Field("description of the model, at most 300 characters", _at_most(300)),
    "inputFormat": Field("what the model takes, at most 300 characters", _at_most(300), default="waveform"),
    "corpus": Field("pre-training data, such as LS 960 hr, at most 300 characters", _at_most(300)),
    "paramDesc": Field("description of the parameters, at most 300 characters", _at_most(300)),
    "stride": Field("milliseconds from one frame to the next, 0 to 100", _stride),
    "macs": Field("MACs of all 32 utterances", _count),
    "macsShort": Field("MACs of the eight short ones", _count),
    "macsMedium": Field("MACs of the eight of medium length", _count),
    "macsLong": Field("MACs of the eight long ones", _count),
    "macsLonger": Field("MACs of the eight longest ones", _count),
    "paramShared": Field("parameters that stay frozen: the backbone", _count),
    "fineTunedParam": Field("parameters tuned for each task: the adapters of one task", _short_count, required=False),
    "taskSpecParam": Field("parameters of one task only: the heads of all tasks", _short_count, required=False),
    "task": Field("track: 1 constrained, 2 less constrained, 3 unconstrained", _track),
}
COUNTED = ("macs", "macsShort", "macsMedium", "macsLong", "macsLonger")


def read_form(path: Path) -> dict[str, str]:
    """Read a form and check the fields that are filled in.

    Returns:
        The text of every field; empty ones are empty.

    Raises:
        ElpError: an unknown field, or a value that the site would refuse.
    """
    content = mapping(read_yaml(path), key=str(path))
    for key in content:
        if key not in FIELDS:
            hint = did_you_mean(key, FIELDS, then=f"the fields are: {', '.join(FIELDS)}")
            raise ElpError(f"{path}: unknown field {shown(key)}; {hint}")
    return check_form({key: _text(content.get(key), f"{path}: {key}") for key in FIELDS}, where=str(path))


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ElpError(f"{where} must be a text or a whole number, but is {shown(value)}; write it in quotes")
    return str(value).strip()


def check_form(values: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Check the limits of all fields that are not empty, and return them.

    Raises:
        ElpError: a value that the site would refuse.
    """
    for key, value in values.items():
        if value and (must := FIELDS[key].fault(value)):
            raise ElpError(f"{where}: the field {key} must be {must}, but is {shown(value)}; change it")
    parts = [values.get(key, "") for key in COUNTED]
    if all(parts) and int(parts[0]) != sum(map(int, parts[1:])):
        raise ElpError(
            f"{where}: the field macs must be the sum of the four others, {sum(map(int, parts[1:]))}, but is "
            f"{parts[0]}; change it"
        )
    return dict(values)


def empty_fields(values: Mapping[str, str]) -> list[str]:
    """Return the fields that the site requires and that are still empty."""
    return [key for key, field in FIELDS.items() if field.required and not values.get(key)]


def filled(values: Mapping[str, str], computed: Mapping[str, str]) -> dict[str, str]:
    """Return a form whose empty fields have computed values, or else their defaults."""
    return {key: values.get(key) or computed.get(key) or field.default for key, field in FIELDS.items()}


def write_form(path: Path, values: Mapping[str, str], remarks: tuple[str, ...] | list[str] = ()) -> None:
    """Write a form with a comment over each field; numbers are written without quotes."""
    lines = ["# Fields of SUPERB's submission form. Fill in the empty ones and run elp submit again to check them."]
    lines += [f"# {remark}" for remark in remarks]
    for key, field in FIELDS.items():
        text = values.get(key, "")
        # texts in quotes, so that none of them looks like a number
        number = text.isdecimal() and len(text) < 20 and str(int(text)) == text
        shown_as = text if number else yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10_000).strip()
        entry = f"{key}: {shown_as}"
        lines += ["", f"# {field.text}{'' if field.required else ' (may be empty)'}", entry]
    write_text(path, "\n".join(lines) + "\n")
