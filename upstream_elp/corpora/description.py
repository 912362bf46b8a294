"""The description of a corpus: its name, its source and the layout of its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import matches, refuse_closed
from upstream_elp.corpora.tables import is_table


@dataclass(frozen=True, kw_only=True)
class PrepareCommand:
    """How ``elp prepare`` offers a corpus.

    Attributes:
        name: the command's name.
        summary: one line for the list of corpora.
        text: the help text.
        splits: valid values of ``--split``; without any, there is no such option.
        trials: whether it accepts trial lists.
        skips: whether single broken files may be skipped.
    """

    name: str
    summary: str
    text: str
    splits: tuple[str, ...] = ()
    trials: bool = False
    skips: bool = False


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One corpus.

    Attributes:
        name: its name.
        folder: its folder below ``$ELP_DATA``.
        source: where to get it.
        layout: the expected files below the root.
        signs: glob patterns of which at least one must match, so that a wrong folder is noticed at once.
        holds: names of which at least one must be in the folder given to ``elp prepare``, which reports missing ones.
        keys: config keys for the root; the first is ours, the others are S3PRL's.
        command: its command of ``elp prepare``, or None.
    """

    name: str
    folder: str
    source: str
    layout: str
    signs: tuple[str, ...]
    holds: tuple[str, ...]
    keys: tuple[str, ...] = ("root",)
    command: PrepareCommand | None = None

    def root(self, datarc: Mapping[str, Any]) -> Path:
        """Find the corpus from the config's ``datarc.root`` (or S3PRL's key for it), or at ``$ELP_DATA/<folder>``.

        Args:
            datarc: the data block of the task's config.

        Raises:
            ElpError: no root is known, it is not a folder, or it does not look like the corpus.
        """
        root, origin = self._candidate(datarc)
        help_text = f"get {self.name} from {self.source}; its folder must contain {self.layout}"
        if root is None:
            raise ElpError(
                f"no folder is set for the corpus {self.name}; pass --data DIR (to use DIR/{self.folder}), set "
                f"ELP_DATA, or set downstream_expert.datarc.root; {help_text}"
            )
        if is_table(root):
            raise ElpError(
                f"{root} (from {origin}) is a manifest, but {self.name} is needed here; pass a folder, or "
                "choose one of the tasks asr, sv, er and ic, which read manifests"
            )
        if not root.is_dir():
            raise ElpError(f"the corpus {self.name} is not at {root} (from {origin}): no such folder; {help_text}")
        closed: dict[str, str] = {}
        if not any(matches(root, sign, closed=closed) for sign in self.signs):
            refuse_closed(closed, root)
            expected = " or ".join(self.signs)
            raise ElpError(f"{root} (from {origin}) does not look like {self.name}: it has no {expected}; {help_text}")
        return root

    def manifest(self, datarc: Mapping[str, Any]) -> Path | None:
        """Return the user's manifest that stands for the corpus, where :meth:`root` would look for it; or None.

        Raises:
            ElpError: it does not exist.
        """
        place, origin = self._candidate(datarc)
        if place is None or not is_table(place):
            return None
        if not place.is_file():
            raise ElpError(f"the manifest {place} (from {origin}) does not exist; correct its path")
        return place.absolute()

    def _candidate(self, datarc: Mapping[str, Any]) -> tuple[Path | None, str]:
        for key in self.keys:
            if datarc.get(key):
                return Path(str(datarc[key])).expanduser(), f"downstream_expert.datarc.{key}"
        if data := settings.current().data:
            place = Path(data).expanduser()
            return place if is_table(place) else place / self.folder, "ELP_DATA"
        return None, ""

    def check_given(self, root: Path) -> None:
        """Check that a folder given to ``elp prepare`` contains something of the corpus.

        Raises:
            ElpError: ``root`` is not a folder, or not this corpus.
        """
        if not root.is_dir():
            raise ElpError(f"{root} does not exist; pass the folder that contains {' or '.join(self.holds)}")
        if any((root / name).exists() for name in self.holds):
            return
        inner = [folder for folder in (root / self.folder, root / f"{self.folder}_full_release") if folder.is_dir()]
        hint = f"; did you mean {inner[0]}?" if inner else ""
        raise ElpError(f"{root} contains none of {', '.join(self.holds)}, so it is not the corpus' top folder{hint}")
