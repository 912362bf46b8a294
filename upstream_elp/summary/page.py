"""The report as one HTML page that loads nothing: pictures are inside it, and it needs no JavaScript."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from upstream_elp.summary.document import Picture, Section

TEMPLATE = Path(__file__).parent / "page.html"


def to_html(title: str, lead: Sequence[str], sections: Sequence[Section], *, pictures: Path, foot: str) -> str:
    """Render the page.

    Args:
        title: the heading.
        lead: sentences below it.
        sections: the parts, which a table of contents lists.
        pictures: the folder with the SVG file of each picture.
        foot: the last line.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    names = {block.name for section in sections for block in section.blocks if isinstance(block, Picture)}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        lead=[*lead],
        sections=[*sections],
        pictures={name: _inline(pictures / f"{name}.svg") for name in names},
        foot=foot,
    )


def _inline(path: Path) -> str:
    # an image of its own and not a part of the page: ids within several SVGs would clash
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
