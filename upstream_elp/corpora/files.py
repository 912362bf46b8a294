"""Folders and files: where tables go, and writing them whole or not at all."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import cache_dir, whole_file


def default_out(corpus: str, root: Path) -> Path:
    """Return the folder for a corpus' tables: below :func:`upstream_elp.base.files.cache_dir`.

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
