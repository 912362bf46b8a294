"""What every corpus' reader returns: rows, and what is wrong or worth knowing."""

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from upstream_elp.base.problems import HARMLESS, Problem, refuse


class HasPath(Protocol):
    """A row: one utterance, whose ``path`` is relative to the corpus' root."""

    @property
    def path(self) -> str:
        """The audio file, with forward slashes."""


Row = TypeVar("Row", bound=HasPath)


@dataclass
class Reading(Generic[Row]):
    """What a reader found in tables and folders; no audio was opened.

    Attributes:
        rows: the utterances that tables or folders name, in the corpus' order.
        gone: paths of rows whose audio is not there, or in folders that cannot be listed.
        problems: what is wrong, each in one sentence.
        remarks: what is worth knowing.
    """

    rows: list[Row] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def present(self) -> list[Row]:
        """The rows whose audio is there."""
        return [row for row in self.rows if row.path not in self.gone] if self.gone else self.rows

    def refuse(self, root: Path, *, passed: Container[str] = HARMLESS) -> None:
        """Raise an error that names the problems, unless their kinds are passed over.

        Raises:
            ElpError: there are others.
        """
        refuse(self.problems, root, passed=passed, audio=len(self.rows))


def stem(file: str) -> str:
    """Return a file's name without folders and extension: the utterance."""
    return file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
