"""Pack predictions into the site's zip, always the same bytes for the same predictions, and open such a zip."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file
from upstream_elp.submission.layout import BY_PATH, FOLDS, MOST_BYTES, TASKS, TOP, Part, parts_of
from upstream_elp.submission.truth import Truth, find_truth

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can state."""
_MOST_UNPACKED = 4 * MOST_BYTES
"""More text than any test set's predictions, so that a zip cannot fill the memory."""


@dataclass
class Opened:
    """The content of a zip.

    Attributes:
        parts: the bytes of each part's file, in the site's order.
        others: files that are not scored here.
    """

    parts: dict[Part, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def collect(folders: Mapping[str, Sequence[Path]]) -> dict[Part, Path]:
    """Find the files of predictions in the folders of runs, ours or S3PRL's.

    Args:
        folders: the folders by task (:data:`upstream_elp.submission.layout.TASKS`): one each, five for `er`.

    Returns:
        Each part's file.

    Raises:
        ElpError: a folder or file does not exist, or the ER folders are not those of five different folds.
    """
    found: dict[Part, Path] = {}
    for task in TASKS:
        for folder in dict.fromkeys(folders.get(task, ())):
            there = [part for part in parts_of(task) if (folder / part.written).is_file()]
            if not there:
                raise ElpError(_absent(task, folder))
            for part in there:
                if part in found:
                    fold = part.name.split("_")[1]
                    raise ElpError(
                        f"--er must name five different folds, but {found[part].parent} and {folder} both contain "
                        f"{part.written}; name the folder of each fold once (such as {fold}) and no copies"
                    )
                found[part] = folder / part.written
        folds = [part for part in parts_of(task) if part in found]
        if task == "er" and folders.get(task) and len(folds) < len(FOLDS):
            missing = [part.written for part in parts_of(task) if part not in found]
            raise ElpError(
                f"--er must name all five folds, as the site scores no fewer, but {', '.join(missing)} is in none of "
                "the folders; evaluate each fold's own run with -t test"
            )
    return found


def _absent(task: str, folder: Path) -> str:
    flag = f"--{task.replace('_', '-')}"
    if not folder.is_dir():
        return f"{flag} {folder} must be the folder of a run, but there is no such folder; check the path"
    parts = parts_of(task)
    wanted = parts[0].written if len(parts) == 1 else "test_fold<1 to 5>_predict.txt"
    split = "test-clean" if task.startswith("asr") else "test"
    return (
        f"{flag} {folder} must contain {wanted}, but does not; evaluate its best checkpoint with `elp run -m evaluate "
        f"-t {split} -e CHECKPOINT`"
    )


def truths_of(parts: Mapping[Part, object], folder: Path | None) -> dict[Part, Truth]:
    """Return the true answers of each part.

    Raises:
        ElpError: neither a folder nor the corpora are named, or they lack something.
    """
    found: dict[Part, Truth] = {}
    for part in parts:
        truth = find_truth(part, folder)
        if truth is None:
            raise ElpError(
                f"the test set of {part.name} must be known, to check that every utterance is answered, but there is "
                "none; pass --data DIR (the corpora), set ELP_DATA, or pass --truth DIR (files as runs write them)"
            )
        found[part] = truth
    return found


def pack(out: Path, contents: Mapping[Part, bytes]) -> int:
    """Write the zip; it appears whole or not at all.

    Folders have entries of their own, as in zips that S3PRL's script makes.

    Args:
        out: the zip.
        contents: the bytes of each part's file.

    Returns:
        Its size in bytes.

    Raises:
        ElpError: it cannot be written, or is not smaller than 50 MiB.
    """
    files = {part.path: content for part, content in contents.items()}
    folders = {f"{TOP}/", *(f"{name.rpartition('/')[0]}/" for name in files)}
    try:
        with whole_file(out, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name in sorted([*folders, *files]):
                    archive.writestr(_entry(name), files.get(name, b""), compresslevel=9)
            size = file.tell()
            if size >= MOST_BYTES:
                raise ElpError(
                    f"{out} must be smaller than {MOST_BYTES // 2**20} MiB, but would have {size / 2**20:.1f} MiB; "
                    "submit fewer tasks at a time"
                )
    except OSError as error:
        raise ElpError(f"cannot write {out}: {error.strerror or error}; choose a writable folder") from error
    return size


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_TIME)
    entry.create_system = 3  # Unix, on every machine
    entry.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    entry.external_attr = (0o40755 << 16) | 0x10 if name.endswith("/") else 0o100644 << 16
    return entry


def open_archive(path: Path) -> Opened:
    """Read a zip of predictions.

    Raises:
        ElpError: it is not a zip, is damaged or too large, or contains nothing that can be scored.
    """
    found = Opened()
    try:
        if path.stat().st_size >= MOST_BYTES:
            raise ElpError(f"{path} must be smaller than {MOST_BYTES // 2**20} MiB, but is not; the site refuses it")
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > _MOST_UNPACKED:
                raise ElpError(f"{path} must unpack to less than {_MOST_UNPACKED // 2**20} MiB, but does not")
            names = [entry.filename for entry in entries]
            if again := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ElpError(f"{path} must contain {again[0]} once, but contains it again; pack it again")
            for part_path, part in BY_PATH.items():
                if part_path in names:
                    found.parts[part] = archive.read(part_path)
    except FileNotFoundError as error:
        raise ElpError(f"{path} must be a zip of predictions, but there is no such file; check the path") from error
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ElpError(f"{path} must be a zip of predictions, but cannot be read ({error}); pack it again") from error
    found.others = [name for name in names if name not in BY_PATH]
    if not found.parts:
        raise ElpError(
            f"{path} must contain a file such as {next(iter(BY_PATH))}, but has only {', '.join(names[:3]) or 'none'}; "
            "pack it with elp submit"
        )
    return found
