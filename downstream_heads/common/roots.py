"""Where a corpus lies on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from downstream_heads.contract import Corpus
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import matches, refuse_closed


def corpus_root(datarc: Mapping[str, Any], corpus: Corpus) -> Path:
    """Find a corpus: the config's ``datarc.root`` (or S3PRL's name for it), else ``$ELP_DATA/<folder>``.

    Args:
        datarc: the data block of the task's config.
        corpus: the task's.

    Raises:
        ElpError: no root is known, it is no folder, or it does not look like the corpus.
    """
    name = corpus.name
    root, origin = _candidate(datarc, corpus)
    help_text = f"get {name} from {corpus.source}; below its folder there must be {corpus.layout}"
    if root is None:
        raise ElpError(
            f"no folder for the corpus {name}: pass --data DIR (DIR/{corpus.folder} is used), set ELP_DATA, "
            f"or set downstream_expert.datarc.root; {help_text}"
        )
    if not root.is_dir():
        raise ElpError(f"the corpus {name} is not at {root} (from {origin}): no such folder; {help_text}")
    closed: dict[str, str] = {}
    if not any(matches(root, sign, closed=closed) for sign in corpus.signs):
        refuse_closed(closed, root)
        expected = " or ".join(corpus.signs)
        raise ElpError(f"{root} (from {origin}) does not look like {name}: it has no {expected}; {help_text}")
    return root


def _candidate(datarc: Mapping[str, Any], corpus: Corpus) -> tuple[Path | None, str]:
    for key in corpus.keys:
        if datarc.get(key):
            return Path(str(datarc[key])).expanduser(), f"downstream_expert.datarc.{key}"
    data = os.environ.get("ELP_DATA")
    if data:
        return Path(data).expanduser() / corpus.folder, "ELP_DATA"
    return None, ""
