"""``--skip-bad-files``: audio that cannot be used is left out, counted and listed, in workers and several processes.

In training the place of an unusable item is taken by the next usable one, so that every epoch has as many batches as
without the fault, on every rank, and the order of the other items stays what the seed makes it. In evaluation nothing
may count twice: unusable items are dropped, and their number stands in the metrics line.
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
except ImportError:  # not on Windows: there two processes may list the same file twice
    fcntl = None

FILE = "skipped_files.txt"


class Skips:
    """The list of what was left out: lines ``split <tab> file <tab> sentence``, each file once per split.

    Args:
        folder: the experiment's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._told: set[tuple[str, str]] = set()
        self._lasting: dict[tuple[str, str], str] = {}

    def add(self, split: str, error: AudioError, *, lasting: bool = False) -> None:
        """Note a file.

        Args:
            split: the split that it belongs to.
            error: what is wrong with it.
            lasting: whether it is out for the whole run, as nothing will try to read it again.
        """
        key = (split, error.path)
        if lasting:
            self._lasting[key] = str(error)
        if key in self._told:
            return
        self._told.add(key)
        with self._open() as file:
            if key not in _parse(file.read()):
                file.write(_line(key, str(error)))

    def restart(self, split: str) -> None:
        """Forget a split's files that will be tried again."""
        self._told = {key for key in self._told if key[0] != split or key in self._lasting}
        if not self.path.is_file():
            return
        with self._open() as file:
            rows = _parse(file.read())
            file.seek(0)
            file.truncate()
            file.writelines(_line(key, text) for key, text in rows.items() if key[0] != split or key in self._lasting)

    def of(self, split: str) -> SplitSkips:
        """The list as one split sees it."""
        return SplitSkips(self, split)

    def count(self, split: str) -> int:
        """How many files of a split were left out."""
        return sum(key[0] == split for key in read_skips(self.path))

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[str]]:
        """The list, for this process alone."""
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
    """One split's part of the list; goes to worker processes with the data set."""

    skips: Skips
    split: str

    def note(self, error: AudioError, *, lasting: bool = False) -> None:
        """Note a file (see :meth:`Skips.add`)."""
        self.skips.add(self.split, error, lasting=lasting)

    def restart(self) -> None:
        """Forget what will be tried again."""
        self.skips.restart(self.split)


def wanted() -> bool:
    """Whether ``elp run`` was told to skip bad files."""
    return settings.current().skip_bad_files


def read_skips(path: Path) -> dict[tuple[str, str], str]:
    """What the list holds: (split, file) -> sentence; nothing where there is no list."""
    return _parse(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _line(key: tuple[str, str], sentence: str) -> str:
    return "\t".join(part.replace("\t", " ").replace("\n", " ") for part in (*key, sentence)) + "\n"


def _parse(text: str) -> dict[tuple[str, str], str]:
    rows = (line.split("\t") for line in text.splitlines())
    return {(row[0], row[1]): row[2] for row in rows if len(row) == 3}


class Replacing(Dataset):
    """A training set in which the next usable item stands in for one that cannot be used.

    Args:
        dataset: its items may raise :class:`AudioError`.
        skip: takes such errors.
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
        raise ElpError(f"not one of the {len(self)} items of training can be used; the last fault: {last}")


class Dropping(Dataset):
    """An evaluation set whose item is None where it cannot be used."""

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
    """Collates the items that are there; a batch of none is None.

    Args:
        collate: the collate function of the items.
    """

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[Any]) -> Any:
        there = [item for item in items if item is not None]
        return self.collate(there) if there else None


class DroppingLoader(DataLoader):
    """A loader that passes over batches of which nothing is left.

    Args:
        skip: the list; what it says of this split is forgotten before each pass.
        options: DataLoader's.
    """

    def __init__(self, *args: Any, skip: SplitSkips, **options: Any) -> None:
        super().__init__(*args, **options)
        self.skip = skip

    def __iter__(self) -> Iterator[Any]:
        self.skip.restart()
        return self._present(super().__iter__())  # which starts the workers, here and not at the first batch

    def _present(self, batches: Iterator[Any]) -> Iterator[Any]:
        yielded = False
        for batch in batches:
            if batch is not None:
                yielded = True
                yield batch
        if not yielded:
            raise ElpError("not one of the items to evaluate can be used; check the corpus")
