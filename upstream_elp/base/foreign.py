"""Recognising files that are not what their names say: pointers to other content, error pages, archives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEAD = 1024
"""How many bytes of a file are read."""


class Foreign(NamedTuple):
    """What a file really is, and what to do about it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


_AGAIN = "download the file again"
_KINDS: tuple[tuple[Callable[[bytes], bool], Foreign], ...] = (
    (
        lambda head: head.startswith(b"version https://") and b"\noid " in head,
        Foreign("it is a Git LFS pointer instead of the file", "run `git lfs pull` in its repository"),
    ),
    (
        lambda head: head.startswith((b"/annex/objects/", b"\\annex\\objects\\")),
        Foreign("it is a git-annex pointer instead of the file", "run `git annex get` in its repository"),
    ),
    (
        lambda head: head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")),
        Foreign("it is an HTML page, which a server may send instead of a file", _AGAIN),
    ),
    (
        lambda head: head.lstrip().startswith((b"<?xml", b"<Error>")),
        Foreign("it is an XML document, which a server may send instead of a file", _AGAIN),
    ),
    (lambda head: head.startswith(b"\x1f\x8b"), Foreign("it is compressed with gzip", "unpack it with gunzip")),
    (lambda head: head.startswith(b"BZh"), Foreign("it is compressed with bzip2", "unpack it with bunzip2")),
    (lambda head: head.startswith(b"\xfd7zXZ\x00"), Foreign("it is compressed with xz", "unpack it with unxz")),
)


def recognised(path: str | bytes | os.PathLike) -> Foreign | None:
    """Return what a file that could not be read really is; None if that is unknown."""
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return None
    return next((kind for fits, kind in _KINDS if fits(head)), None)


def recognised_in(folder: str | os.PathLike, *endings: str) -> str:
    """Describe the first such file in a folder, with its name; empty if there is none."""
    for path in sorted(Path(folder).glob("*")):
        if path.name.endswith(endings) and (found := recognised(path)):
            return f"{path.name}: {found}"
    return ""
