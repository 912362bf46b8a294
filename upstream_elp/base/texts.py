"""Text files that users write or edit: UTF-8, with or without the byte order mark of Windows editors."""

import codecs
import os
import re
from pathlib import Path

from upstream_elp.base.errors import ElpError

_OTHERS = {  # longer marks first: that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes) -> tuple[str, str]:
    """Read bytes as UTF-8; a byte order mark at their start is ignored.

    Returns:
        The text, with a replacement character for every byte that cannot be decoded; and what is wrong with the
        encoding, worded to follow the file's name, or an empty string.
    """
    for mark, coding in _OTHERS.items():
        if content.startswith(mark):
            return content.decode(coding, errors="replace"), f"is {coding.upper()} text; save the file as UTF-8"
    text = content.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        return text.replace("\0", ""), "contains zero bytes, so it is not UTF-8 text; save the file as UTF-8"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return text, f"line {line} is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
    return text, ""


def read(path: str | os.PathLike) -> tuple[str, str]:
    """Read a text file as :func:`decode` does; for an unreadable file, the text is empty and the fault says why."""
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        return "", f"cannot be read ({error.strerror or error}); check the file and its permissions"


def read_text(path: str | os.PathLike, *, name: str | None = None) -> str:
    """Read a text file.

    Args:
        path: the file.
        name: what to call it in errors; its path by default.

    Raises:
        ElpError: the file cannot be read, or is not UTF-8.
    """
    text, fault = read(path)
    if fault:
        raise ElpError(f"{name or path} {fault}")
    return text


def lines(text: str) -> list[str]:
    """Split a text at the line breaks of any system, but not at the other line separators of Unicode."""
    split = re.split(r"\r\n|\n|\r", text)
    return split[:-1] if split[-1] == "" else split
