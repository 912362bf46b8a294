"""The blocks of code in a page of Markdown, and what an HTML comment before a block says about it.

A comment comes directly before its block:

- ``<!-- not run: REASON -->``: the block is not run by the tests; the reason is one of :data:`REASONS`.
- ``<!-- file: NAME -->``: the block is written to the file NAME, which later blocks use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

PROGRAMS = {"bash", "sh", "shell", "console", "python", "py", "pycon"}
"""Languages that a reader would run, under any of their names."""
RUNNABLE = {"bash", "python"}
"""The names that the pages use for them."""
SHOWN = {"text", "yaml", "toml", "json", "csv"}
"""Languages that a reader only reads."""
REASONS = {
    "it installs packages",
    "it needs a real corpus",
    "it needs a real corpus and a released backbone",
    "it needs the network",
    "it needs several GPUs",
    "it needs SLURM",
    "it needs a method of your own",
    "it needs a task of your own",
    "it needs a backbone of your own",
    "it takes an hour",
    "it takes hours",
}
"""Why a block may not be run. Also valid: ``PATH runs it``, where PATH is a test, and ``the tutorial runs it``."""

_COMMENT = re.compile(r"<!--\s*(not run|file):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None
    """Why it is not run, or None."""
    file: str | None = None
    """The file that it is the content of, or None."""

    @property
    def where(self) -> str:
        """Page and line, as editors take them."""
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether the tests run it."""
        return self.language in RUNNABLE and self.reason is None and self.file is None


def blocks_of(page: Path, root: Path) -> list[Block]:
    """All blocks of a page in order, fenced or indented, in lists and quotations too."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return list(_blocks(tokens, str(page.relative_to(root))))


def _blocks(tokens: list[Token], page: str) -> Iterator[Block]:
    before: Token | None = None
    for token in tokens:
        if token.type in ("fence", "code_block"):
            said = _said(before)
            yield Block(
                page, token.map[0] + 1, token.info.strip(), token.content, said.get("not run"), said.get("file")
            )
        before = token


def _said(before: Token | None) -> dict[str, str]:
    return dict(_COMMENT.findall(before.content)) if before is not None and before.type == "html_block" else {}
