"""Write docs/presets.md from the code: every preset with its counts and source, every method with its options.

python recipes/docs/presets.py           # writes the page
python recipes/docs/presets.py --check   # exit status 1 if the page is not what the code says
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import griffe
from click.testing import CliRunner
from tabulate import tabulate

from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.base.files import whole_file
from upstream_elp.cli import group

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "presets.md"
BACKBONE = "wavlm_base_plus"

HEAD = """\
# Presets and options

<!-- Written by `python recipes/docs/presets.py` from the code. Do not edit it: a test compares the two. -->

This page lists all presets, and all options of the methods. [Methods](methods.md) explains how to choose a preset and
how to write your own configuration.
"""
COUNTS = """\
This table shows how many parameters each preset trains in WavLM Base+, also as a share of its {total:,} parameters.
The head and the layer weights are not counted. `features` is [what the head sees](methods.md#what-the-head-sees).
`elp params` prints such a table for any backbone.
"""
OPTIONS = """\
These are the options of each method and their defaults, as in YAML. [Layers](methods.md#layers) and
[sizes](methods.md#sizes) have their own syntax.
"""

LAYERS = "Encoder layers that it is put into."
"""The meaning of an option ``layers`` that has no docstring."""


def page() -> str:
    """The whole page."""
    counts = _counts()
    parts = [
        HEAD,
        "## Presets\n",
        COUNTS.format(total=_total(counts)),
        _presets_table(counts),
        "## Sources\n",
        *map(_source, preset_names()),
        "## Methods\n",
        OPTIONS,
        *(_method(name, options) for name, options in _methods().items()),
    ]
    return "\n".join(parts)


def _counts() -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(group, ["params", "--json", "-u", BACKBONE], catch_exceptions=False)
    return json.loads(done.stdout)


def _total(counts: dict[str, dict[str, Any]]) -> int:
    return counts["weighted_sum"]["frozen"]


def _presets_table(counts: dict[str, dict[str, Any]]) -> str:
    total, rows = _total(counts), []
    for name in sorted(counts, key=lambda name: (counts[name]["trainable"]["total"], name)):
        config, trained = load_config(name), counts[name]["trainable"]["total"]
        share = f"{100 * trained / total:.2f}"
        rows.append((f"[`{name}`](#{name})", f"{trained:,}", share, f"`{config.features}`", config.description))
    headers = ("preset", "trained", "share (%)", "features", "description")
    align = ("left", "right", "right", "left", "left")
    return _table(rows, headers, align)


def _source(name: str) -> str:
    config = load_config(name)
    return f"### {name}\n\n{config.description}. {_escaped(_sentence(config.source))}\n"


def _methods() -> dict[str, Any]:
    """Each method's name and its options in some preset: every method has one."""
    found = {name: options for preset in preset_names() for name, options in load_config(preset).methods.items()}
    return dict(sorted(found.items()))


def _method(name: str, options: Any) -> str:
    cls = type(options)
    described = griffe.load(cls.__module__, search_paths=[ROOT])[cls.__name__]
    rows = [
        (f"`{field.name}`", _default(field), _escaped(_docstring(described, field.name)))
        for field in dataclasses.fields(cls)
        if field.init and not field.name.startswith("_")
    ]
    text = f"### {name}\n\n{_escaped(_plain(described.docstring.value))}\n"
    return f"{text}\n{_table(rows, ('option', 'default', 'meaning'))}" if rows else text


def _docstring(described: griffe.Class, field: str) -> str:
    member = described.all_members.get(field)
    if member is None or not member.docstring:
        return LAYERS if field == "layers" else ""
    return _plain(member.docstring.value)


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    return f"`{json.dumps(value)}`"


def _plain(text: str) -> str:
    """A docstring for Markdown: one backtick for code, roles as code, lines joined within paragraphs."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith(".") else text + "."


def _escaped(text: str) -> str:
    """Outside code, what Markdown or a table would read as markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<_])", r"\\\1", part) for part in parts)


def _table(rows: list[tuple], headers: tuple[str, ...], align: tuple[str, ...] | None = None) -> str:
    rows = [tuple(cell.replace("\n\n", " ").replace("|", "\\|") for cell in row) for row in rows]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align) + "\n"


@click.command()
@click.option("--check", is_flag=True, help="Compare the page with the code instead of writing it.")
def main(check: bool) -> None:
    """Write docs/presets.md, or compare it with the code."""
    text = page()
    if not check:
        with whole_file(PAGE, encoding="utf-8") as file:
            file.write(text)
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE} is not what the code says: run python recipes/docs/presets.py")


if __name__ == "__main__":
    main()
