"""The result of every corpus reader: rows, problems and remarks."""

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from upstream_elp.base.problems import HARMLESS, Problem, refuse


class HasPath(Protocol):
    """A row: one utterance, whose ``path`` is relative to the corpus root."""

    @property
    def path(self) -> str:
        """The audio file, with forward slashes."""


Row = TypeVar("Row", bound=HasPath)


@dataclass
class Reading(Generic[Row]):
    """The contents of tables and folders, without opening any audio.

    Attributes:
        rows: the utterances that tables or folders name, in the corpus' order.
        gone: paths of rows whose audio is missing or in folders that cannot be listed.
        problems: what is wrong, each in one sentence.
        remarks: what is worth knowing.
    """

    rows: list[Row] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def present(self) -> list[Row]:
        """The rows whose audio exists."""
        return [row for row in self.rows if row.path not in self.gone] if self.gone else self.rows

    def refuse(self, root: Path, *, passed: Container[str] = HARMLESS) -> None:
        """Raise an error that names the problems, unless all their kinds are in ``passed``.

        Raises:
            ElpError: there are problems of other kinds.
        """
        refuse(self.problems, root, passed=passed, audio=len(self.rows))


def stem(file: str) -> str:
    """Return a file's name without folders and extension, which names the utterance."""
    return file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
