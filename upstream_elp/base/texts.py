"""Text files that users write or save again: UTF-8, with or without the byte order mark of Windows' editors."""

import codecs
import os
import re
from pathlib import Path

from upstream_elp.base.errors import ElpError

_OTHERS = {  # the longer marks first: UTF-32's begins like UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes) -> tuple[str, str]:
    """Read bytes as UTF-8; a byte order mark at their start is passed over.

    Returns:
        The text, with a replacement character for every byte that cannot be read; and what is wrong with the coding,
        to be put behind the file's name, empty where nothing is.
    """
    for mark, coding in _OTHERS.items():
        if content.startswith(mark):
            return content.decode(coding, errors="replace"), f"is {coding.upper()} text; save the file as UTF-8"
    text = content.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        return text.replace("\0", ""), "holds zero bytes, so it is not UTF-8 text; save the file as UTF-8"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return text, f"line {line} is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
    return text, ""


def read(path: str | os.PathLike) -> tuple[str, str]:
    """Read a text file as :func:`decode` does; a file that cannot be read is empty, and the fault says why."""
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        return "", f"cannot be read ({error.strerror or error}); check the file and its permissions"


def read_text(path: str | os.PathLike, *, name: str | None = None) -> str:
    """Read a text file.

    Args:
        path: the file.
        name: what to call it in errors, if not by its path.

    Raises:
        ElpError: it cannot be read, or is not UTF-8.
    """
    text, fault = read(path)
    if fault:
        raise ElpError(f"{name or path} {fault}")
    return text


def lines(text: str) -> list[str]:
    """The lines of a text, whichever system wrote it; only line breaks end a line, not every separator of Unicode."""
    split = re.split(r"\r\n|\n|\r", text)
    return split[:-1] if split[-1] == "" else split
