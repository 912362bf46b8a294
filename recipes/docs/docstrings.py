"""Show docstrings in the site as Markdown: Sphinx roles become code, and a `::` before an example goes."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`~?([^`]+)`")
EXAMPLE = re.compile(r"^(\w[\w ]*)::$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring once all of them are collected."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of anything in a package."""
        _rewrite(obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstring of a package itself."""
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        obj.docstring.value = EXAMPLE.sub(r"**\1**", ROLE.sub(r"`\1`", obj.docstring.value)).replace("``", "`")
