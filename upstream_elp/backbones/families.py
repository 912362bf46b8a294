"""All backbone families: ours, and those of other packages.

A package offers a family through an entry point of the group ``upstream_elp.backbones``. The entry point has the name
of the family, and its object is a :class:`~upstream_elp.backbones.family.Family`. Such packages are imported when
families are listed or a checkpoint is recognised, so their module should only import torch inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from upstream_elp.backbones.family import Family
from upstream_elp.backbones.huggingface_families import HUGGING_FACE_FAMILIES
from upstream_elp.backbones.s3prl_families import S3PRL_FAMILIES
from upstream_elp.base.errors import ElpError
from upstream_elp.base.installed import FAILURES

GROUP = "upstream_elp.backbones"
FAMILIES: dict[str, Family] = {family.name: family for family in (*S3PRL_FAMILIES, *HUGGING_FACE_FAMILIES)}
"""Our families by name."""


def families() -> dict[str, Family]:
    """Return all families by name: ours, then those of other packages.

    Raises:
        ElpError: a family of another package cannot be imported, is not a family, or has a name that is taken.
    """
    return {**FAMILIES, **other_families()}


@cache
def other_families() -> dict[str, Family]:
    """Return the families of other packages by name."""
    found: dict[str, Family] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            family = entry.load()
        except FAILURES as error:
            raise ElpError(
                f"the backbone family {entry.name!r} cannot be imported from {entry.value}: {error}; correct or "
                "uninstall the package that offers it"
            ) from error
        if not isinstance(family, Family) or family.name != entry.name:
            raise ElpError(
                f"the entry point {entry.name!r} ({entry.value}) must be a Family named {entry.name!r}, but is "
                f"{getattr(family, 'name', type(family).__name__)!r}; correct the package that offers it"
            )
        if family.name in FAMILIES or family.name in found:
            raise ElpError(
                f"the backbone family {family.name!r} of {entry.value} has a name that is taken; rename it, or "
                "uninstall the package that offers it"
            )
        found[family.name] = family
    return found


def recognised(content: Mapping[str, Any], *, among: Mapping[str, Family]) -> Family | None:
    """Return the first family that recognises a checkpoint.

    Args:
        content: the outermost mapping of a file, or the content of ``config.json``.
        among: families by name.

    Raises:
        ElpError: the function of another package fails.
    """
    for family in among.values():
        try:
            if family.recognise(content):
                return family
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ElpError(
                f"the family {family.name!r} failed to recognise a checkpoint: "
                f"{type(error).__name__}: {error}; its function recognise must accept any mapping"
            ) from error
    return None
