"""A report as plain values, and its tables as Markdown and LaTeX. The HTML page is ``page.html``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

UNKNOWN = "-"
LEFT, RIGHT = "left", "right"

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\texttt{\char34}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "[": "{[}", "*": "{*}",  # which would belong to the end of the line before
    "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
}  # fmt: skip
"""What LaTeX reads as something else, and our signs, which not every font has."""


NUMBERS = re.compile(r"[-+]?\d[\d.,]*( to [-+]?\d[\d.,]*)?")
"""Entries whose hyphens are minus signs."""


@dataclass(frozen=True)
class Marked:
    """A text of a table whose beginning is emphasised.

    Args:
        strong: the emphasised beginning.
        rest: what follows.
        best: whether it is the best one of its column, and not only as good.
    """

    strong: str
    rest: str = ""
    best: bool = False


Entry = str | Marked


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: the name of its files.
        caption: one sentence.
        headers: one per column.
        rows: the texts.
        align: :data:`LEFT` or :data:`RIGHT` per column; all but the first are right-aligned by default.
    """

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    align: Sequence[str] = ()

    @property
    def sides(self) -> list[str]:
        """The alignment of each column."""
        return list(self.align) or [LEFT, *[RIGHT] * (len(self.headers) - 1)]


@dataclass(frozen=True)
class Picture:
    """A picture in ``pictures``: the name of its files, a caption, and a text for those who cannot see it."""

    name: str
    caption: str
    text: str


@dataclass(frozen=True)
class Code:
    """Lines to copy, below a title; ``long`` ones are folded on the page."""

    title: str
    text: str
    long: bool = False
    language: str = "text"


Block = str | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """A part of the report with a title; its anchor follows from the title."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The id of the section on the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def by_columns(
    name: str, caption: str, rows: Sequence[dict[str, Entry]], *, left: Sequence[str] = (), keep: Sequence[str] = ()
) -> Table:
    """A table from rows with the same keys; a column without any text is not shown.

    Args:
        name: see :class:`Table`.
        caption: see :class:`Table`.
        rows: header -> text.
        left: headers of columns with words.
        keep: headers of columns that are shown in any case.
    """
    headers = [key for key in rows[0] if key in keep or any(row[key] not in ("", UNKNOWN) for row in rows)]
    align = [LEFT if number == 0 or header in left else RIGHT for number, header in enumerate(headers)]
    return Table(name, caption, headers, [[row[header] for header in headers] for row in rows], align)


# Markdown ----------------------------------------------------------------------------------------------------------


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The whole report."""
    parts = [f"# {_plain(title)}"]
    for section in sections:
        parts += [f"## {section.title}", *(_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return f"{_plain(block.caption)}\n\n{markdown_table(block)}"
    if isinstance(block, Picture):
        return f"![{_plain(block.text)}](pictures/{block.name}.svg)\n\n{block.caption}"
    if isinstance(block, Code):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        return f"{block.title}\n\n{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
    return _plain(block)


def markdown_table(table: Table) -> str:
    """A table as Markdown."""
    rows = [[_markdown_entry(entry) for entry in row] for row in table.rows]
    headers = [_plain(header) for header in table.headers]
    return tabulate(rows, headers=headers, tablefmt="pipe", colalign=table.sides, disable_numparse=True)


def _markdown_entry(entry: Entry) -> str:
    return f"**{_plain(entry.strong)}**{_plain(entry.rest)}" if isinstance(entry, Marked) else _plain(entry)


def _line(text: str) -> str:
    """The text in one line."""
    return re.sub(r"\s+", " ", text)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line; an underscore within a word needs no escape."""
    return re.sub(r"([\\`*|<\[]|&(?=#?\w+;))", r"\\\1", _line(text))


# LaTeX -------------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text that LaTeX shows as it is, in one line."""
    escaped = "".join(LATEX.get(character, character) for character in _line(text))
    return re.sub("(?<=-)(?=-)|(?<=,)(?=,)", "{}", escaped)  # two hyphens are not a dash, two commas no quotation mark


def latex_table(table: Table) -> str:
    r"""A table for ``\input``, with the rules of the package booktabs; the caption is a comment in its first line."""
    columns = "".join(side[0] for side in table.sides)
    lines = [
        [escape(header) for header in table.headers],
        *([_latex_entry(each) for each in row] for row in table.rows),
    ]
    head, *body = [f"{' & '.join(cells)} \\\\" for cells in lines]
    frame = [
        f"% {_line(table.caption)}",
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        head,
    ]
    return "\n".join([*frame, "\\midrule", *body, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_entry(entry: Entry) -> str:
    if not isinstance(entry, Marked):
        return escape(entry).replace("-", "$-$") if NUMBERS.fullmatch(entry) else escape(entry)
    strong = f"\\underline{{{escape(entry.strong)}}}" if entry.best else escape(entry.strong)
    return f"\\textbf{{{strong}}}{escape(entry.rest)}"
