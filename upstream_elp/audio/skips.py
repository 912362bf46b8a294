"""``--skip-bad-files``: unusable audio is skipped, counted and listed, also in worker and parallel processes.

In training, an unusable item is replaced by the next usable one, so that every epoch has the same number of batches on
every rank, and the seed still determines the order of the other items. In evaluation no item may count twice, so
unusable items are dropped, and their number is in the metrics line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch.utils.data import DataLoader, Dataset

from upstream_elp.base import settings
from upstream_elp.base.errors import AudioError, ElpError

try:
    import fcntl
except ImportError:  # on Windows: two processes may list the same file twice
    fcntl = None

FILE = "skipped_files.txt"


class Skips:
    """The list of skipped files: lines ``split <tab> file <tab> sentence``, each file once per split.

    Args:
        folder: the experiment's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._noted: set[tuple[str, str]] = set()
        self._lasting: dict[tuple[str, str], str] = {}

    def add(self, split: str, error: AudioError, *, lasting: bool = False) -> None:
        """Add a file to the list.

        Args:
            split: its split.
            error: what is wrong with it.
            lasting: whether it is skipped for the whole run, as nothing will try to read it again.
        """
        key = (split, error.path)
        if lasting:
            self._lasting[key] = str(error)
        if key in self._noted:
            return
        self._noted.add(key)
        with self._open() as file:
            if key not in _parse(file.read()):
                file.write(_line(key, str(error)))

    def restart(self, split: str) -> None:
        """Remove a split's files that will be tried again."""
        self._noted = {key for key in self._noted if key[0] != split or key in self._lasting}
        if not self.path.is_file():
            return
        with self._open() as file:
            rows = _parse(file.read())
            file.seek(0)
            file.truncate()
            file.writelines(_line(key, text) for key, text in rows.items() if key[0] != split or key in self._lasting)

    def of(self, split: str) -> SplitSkips:
        """Return the part of the list for one split."""
        return SplitSkips(self, split)

    def count(self, split: str) -> int:
        """Return how many files of a split were skipped."""
        return sum(key[0] == split for key in read_skips(self.path))

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[str]]:
        """Open the list with a lock, so that only this process uses it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ElpError(f"cannot write {self.path}: {error.strerror or error}; choose a writable folder") from error
        with file:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


@dataclass(frozen=True)
class SplitSkips:
    """One split's part of the list, which worker processes receive with the data set."""

    skips: Skips
    split: str

    def note(self, error: AudioError, *, lasting: bool = False) -> None:
        """Add a file to the list (see :meth:`Skips.add`)."""
        self.skips.add(self.split, error, lasting=lasting)

    def restart(self) -> None:
        """Remove files that will be tried again."""
        self.skips.restart(self.split)


def wanted() -> bool:
    """Return whether ``elp run`` skips bad files."""
    return settings.current().skip_bad_files


def read_skips(path: Path) -> dict[tuple[str, str], str]:
    """Read the list: (split, file) -> sentence; empty if there is no list."""
    return _parse(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _line(key: tuple[str, str], sentence: str) -> str:
    return "\t".join(part.replace("\t", " ").replace("\n", " ") for part in (*key, sentence)) + "\n"


def _parse(text: str) -> dict[tuple[str, str], str]:
    rows = (line.split("\t") for line in text.splitlines())
    return {(row[0], row[1]): row[2] for row in rows if len(row) == 3}


class Replacing(Dataset):
    """A training set that replaces an unusable item by the next usable one.

    Args:
        dataset: its items may raise :class:`AudioError`.
        skip: list of skipped files, which records these errors.
    """

    def __init__(self, dataset: Dataset, skip: SplitSkips) -> None:
        self.dataset, self.skip = dataset, skip

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        for step in range(len(self)):
            try:
                return self.dataset[(index + step) % len(self)]
            except AudioError as error:
                self.skip.note(error)
                last = error
        raise ElpError(f"none of the {len(self)} training items can be used; the last error: {last}")


class Dropping(Dataset):
    """An evaluation set whose unusable items are None."""

    def __init__(self, dataset: Dataset, skip: SplitSkips) -> None:
        self.dataset, self.skip = dataset, skip

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except AudioError as error:
            self.skip.note(error)
            return None


class Present:
    """Collates the usable items of a batch; the result is None if there are none.

    Args:
        collate: the collate function of the items.
    """

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[Any]) -> Any:
        there = [item for item in items if item is not None]
        return self.collate(there) if there else None


class DroppingLoader(DataLoader):
    """A loader that drops batches without usable items.

    Args:
        skip: list of skipped files; this split's part is cleared before each pass.
        options: options of DataLoader.
    """

    def __init__(self, *args: Any, skip: SplitSkips, **options: Any) -> None:
        super().__init__(*args, **options)
        self.skip = skip

    def __iter__(self) -> Iterator[Any]:
        self.skip.restart()
        return self._present(super().__iter__())  # starts the workers here, not at the first batch

    def _present(self, batches: Iterator[Any]) -> Iterator[Any]:
        yielded = False
        for batch in batches:
            if batch is not None:
                yielded = True
                yield batch
        if not yielded:
            raise ElpError("none of the items to evaluate can be used; check the corpus")
