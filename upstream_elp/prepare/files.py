"""Folders and files: where tables go, atomic writing, listing of audio."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from upstream_elp.errors import ElpError
from upstream_elp.files import cache_dir, whole_file


def default_out(corpus: str, root: Path) -> Path:
    """Return the folder for a corpus' tables: below :func:`upstream_elp.files.cache_dir`.

    The name holds a hash of the root, so that two copies of a corpus never share tables.
    """
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
    return cache_dir() / "prepare" / f"{corpus}-{key}"


def open_out(out: Path) -> Path:
    """Create the folder for the tables.

    Raises:
        ElpError: where the folder cannot be created or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ElpError(
            f"{out}: cannot create the folder for the tables ({error.strerror}); give another OUT"
        ) from error
    if not os.access(out, os.W_OK):
        raise ElpError(f"{out}: the folder for the tables is not writable; give another OUT")
    return out


def check_root(root: Path, *, holds: Iterable[str], unpacked: str) -> None:
    """Refuse a root that holds none of the names of a corpus.

    Args:
        root: folder given by the user.
        holds: names of which at least one must be in ``root``.
        unpacked: usual name of the corpus' folder, proposed where the user gave its parent.

    Raises:
        ElpError: where ``root`` is no folder or not that corpus.
    """
    names = list(holds)
    if not root.is_dir():
        raise ElpError(f"{root}: there is no such folder; give the folder that holds {' or '.join(names)}")
    if any((root / name).exists() for name in names):
        return
    inner = [folder for folder in (root / unpacked, root / f"{unpacked}_full_release") if folder.is_dir()]
    hint = f"; did you mean {inner[0]}?" if inner else ""
    raise ElpError(f"{root}: holds none of {', '.join(names)}, so it is not the corpus' top folder{hint}")


def walk_files(folder: Path, *, suffix: str | tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below ``folder`` that end in ``suffix`` (or in one of several), sorted.

    Links are followed, hidden files left out.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(suffix) and not name.startswith("."))


def list_files(folder: Path, *, suffix: str | tuple[str, ...], root: Path) -> list[str]:
    """The same files relative to ``root``, as text: pathlib takes many times as long on a large corpus.

    Args:
        folder: ``root`` or a folder below it.
        suffix: ending of the files, or several.
        root: the corpus.
    """
    top, found = relative(folder, root), []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = parent[len(str(folder)) :].replace(os.sep, "/")
        place = f"{top}{inner}/" if top != "." else f"{inner.lstrip('/')}/".lstrip("/")
        found += [place + name for name in sorted(names) if name.endswith(suffix) and not name.startswith(".")]
    return found


def read_text(path: Path) -> tuple[str, str]:
    """Read a table that must be UTF-8; a byte order mark at its start is passed over.

    Returns:
        The text, with a replacement character for every byte that cannot be read; and what is wrong with the coding,
        empty where nothing is.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = f"line {line} is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        return content.decode("utf-8-sig", errors="replace"), fault


def relative(path: Path, root: Path) -> str:
    """Return ``path`` relative to ``root`` with forward slashes, as the tables hold it."""
    return path.relative_to(root).as_posix()


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    return path


def write_json(path: Path, value: object) -> Path:
    """Write JSON whole or not at all."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_length_table(path: Path, lengths: dict[str, int]) -> Path:
    """Write a table of utterance lengths, the longest first, equal ones by path.

    The columns are those that ``bucket_file`` of stock ``asr`` holds (s3prl/downstream/asr/dataset.py:46-57): an index,
    ``file_path`` relative to the corpus, ``length`` in samples, and ``label``, which is empty.

    Args:
        path: the CSV file.
        lengths: samples per file.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["", "file_path", "length", "label"])
    ordered = sorted(lengths.items(), key=lambda item: (-item[1], item[0]))
    writer.writerows((row, file, length, "") for row, (file, length) in enumerate(ordered))
    return write_text(path, stream.getvalue())
