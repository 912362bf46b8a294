"""Listing folders of audio and tables: sorted, each folder once, and unreadable folders are always reported."""

import fnmatch
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.base.errors import ElpError

ADVICE = "make it readable, or its files would be missing from the data"
_DANGLING = "it is a link to a place that does not exist"


@dataclass
class Tree:
    """The contents of a folder; all names are relative to the root, with forward slashes.

    Attributes:
        files: the requested files, sorted.
        folders: the folders directly below the top, sorted.
        closed: folders that cannot be listed, and why.
        again: further names of folders already listed under another name, which links create.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)


def look(folder: Path, *, root: Path, suffix: str | tuple[str, ...]) -> Tree:
    """List the files below ``folder`` that end in ``suffix`` (or in one of several), whatever its case.

    Links are followed, but no folder is listed twice: real folders come before links, and a link to a parent folder is
    not followed. Hidden files and folders are ignored. A folder that does not exist counts as empty.

    Args:
        folder: ``root`` or a folder below it.
        root: the corpus.
        suffix: the file ending, in lower case.
    """
    walk, tree = _Walk(folder), Tree()
    top = folder.relative_to(root).as_posix()
    prefix = "" if top == "." else f"{top}/"
    for place, names in walk.steps():
        inner = f"{prefix}{place}/" if place else prefix
        tree.files += [inner + name for name in names if name.lower().endswith(suffix)]
    tree.files.sort()
    tree.folders = sorted(walk.children)
    tree.closed = {(prefix + place).rstrip("/") or ".": reason for place, reason in sorted(walk.closed.items())}
    tree.again = sorted(prefix + place for place in walk.again)
    return tree


def list_files(folder: Path, *, root: Path, suffix: str | tuple[str, ...]) -> list[str]:
    """Return the files that :func:`look` finds.

    Raises:
        ElpError: folders cannot be listed.
    """
    tree = look(folder, root=root, suffix=suffix)
    refuse_closed(tree.closed, root)
    return tree.files


def refuse_closed(closed: Mapping[str, str], root: Path) -> None:
    """Raise an error that names the first five folders that cannot be listed, if there are any."""
    if closed:
        named = "; ".join(f"{root / folder} cannot be listed ({why})" for folder, why in list(closed.items())[:5])
        more = f"; and {len(closed) - 5} more" if len(closed) > 5 else ""
        raise ElpError(f"{named}{more}; {ADVICE}")


def subfolders(folder: Path) -> list[str]:
    """Return the sorted names of the visible folders in a folder; none if it does not exist.

    Raises:
        ElpError: the folder cannot be listed.
    """
    try:
        return sorted(entry.name for entry in _entries(str(folder)) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ElpError(f"{folder} cannot be listed ({_why(error)}); {ADVICE}") from error


def matches(root: Path, pattern: str, *, closed: dict[str, str]) -> bool:
    """Return whether anything below a folder matches a glob pattern; the pattern's depth limits the search.

    Args:
        root: the folder.
        pattern: names and ``*`` between slashes.
        closed: receives the folders that cannot be listed, and why.
    """
    return _matches(root, "", pattern.split("/"), closed)


def _matches(root: Path, place: str, parts: list[str], closed: dict[str, str]) -> bool:
    if not parts:
        return True
    try:
        names = [entry.name for entry in _entries(str(root / place)) if _fits(entry.name, parts[0])]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        closed[place or "."] = _why(error)
        return False
    return any(_matches(root, f"{place}/{name}".lstrip("/"), parts[1:], closed) for name in names)


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.lower(), pattern.lower())


def locate(root: Path, names: Iterable[str], *, closed: dict[str, str] | None = None) -> dict[str, str | None]:
    """Find files by name; each folder is listed once, which is faster than checking every file.

    Args:
        root: the folder that the names are relative to.
        names: the files.
        closed: receives the folders that cannot be listed, and why; their files count as present. If None, such folders
            are an error.

    Returns:
        Each name as it is on disk (the case of its ending may differ), or None if there is no such file.

    Raises:
        ElpError: folders cannot be listed.
    """
    shut: dict[str, str] = {} if closed is None else closed
    listed: dict[str, dict[str, str] | None] = {}
    found: dict[str, str | None] = {}
    for name in names:
        folder, file = os.path.split(name)
        if folder not in listed:
            listed[folder] = _files_in(root, folder, shut)
        there = listed[folder]
        actual = file if there is None else there.get(file) or there.get(_folded(file))
        found[name] = actual and os.path.join(folder, actual)  # noqa: PTH118 - pathlib takes many times as long
    if closed is None:
        refuse_closed(shut, root)
    return found


def _files_in(root: Path, folder: str, closed: dict[str, str]) -> dict[str, str] | None:
    """Map the names in a folder, as they are and with a lower-case ending, to themselves; None if it is unreadable."""
    try:
        with os.scandir(root / folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        closed[folder or "."] = _why(error)
        return None
    return {**{_folded(name): name for name in sorted(names, reverse=True)}, **{name: name for name in names}}


def _folded(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}" if dot else name


class _Walk:
    """A walk below a folder; places are relative to it.

    Attributes:
        children: the folders directly in it.
        closed: places that cannot be listed, and why.
        again: places whose folders are already listed.
    """

    def __init__(self, top: Path) -> None:
        self.top = str(top)
        self.children: list[str] = []
        self.closed: dict[str, str] = {}
        self.again: list[str] = []
        self._seen = _above(top)

    def steps(self) -> Iterable[tuple[str, list[str]]]:
        """Yield every folder with the names of its files."""
        folders, links = [""], []
        while folders or links:
            place = folders.pop() if folders else links.pop(0)
            try:
                if not self._is_new(place):
                    self.again.append(place)
                    continue
                entries = _entries(os.path.join(self.top, place))  # noqa: PTH118 - pathlib takes many times as long
            except OSError as error:
                if place or not isinstance(error, FileNotFoundError | NotADirectoryError):
                    self.closed[place] = _why(error)
                continue
            prefix, files = f"{place}/" if place else "", []
            for entry in entries:
                if not self._is_folder(entry, prefix + entry.name):
                    files.append(entry.name)
                    continue
                (links if entry.is_symlink() else folders).append(prefix + entry.name)
                if not place:
                    self.children.append(entry.name)
            yield place, files

    def _is_new(self, place: str) -> bool:
        status = os.stat(os.path.join(self.top, place))  # noqa: PTH116, PTH118
        key = (status.st_dev, status.st_ino)
        new = not place or key not in self._seen
        self._seen.add(key)
        return new

    def _is_folder(self, entry: os.DirEntry, place: str) -> bool:
        try:
            if entry.is_dir():
                return True
            # a link without an ending was meant for a folder; a broken link to a file is noticed when the file is read
            if entry.is_symlink() and "." not in entry.name and not Path(entry.path).exists():
                self.closed[place] = _DANGLING
        except OSError as error:
            self.closed[place] = _why(error)
        return False


def _above(top: Path) -> set[tuple[int, int]]:
    """Return the parents of a folder: following a link to one of them would never end."""
    seen = set()
    for folder in {*top.absolute().parents, *Path(os.path.realpath(top)).parents}:
        try:
            status = folder.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            seen.add((status.st_dev, status.st_ino))
    return seen


def _entries(folder: str) -> list[os.DirEntry]:
    """Return the visible entries of a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
