"""The registry of corpora: every module in this folder with a ``CORPUS``, its description.

Such a module also contains the corpus' reader, and ``prepare`` if there is a command of ``elp prepare``.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from upstream_elp import corpora
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.description import Corpus

FIRST = ("librispeech", "librilight", "voxceleb1", "iemocap", "fluent")
"""The first modules in lists; the others follow by name."""


@cache
def modules() -> Mapping[str, ModuleType]:
    """Return the modules of the corpora by the names of the corpora.

    Raises:
        ElpError: two corpora have the same name.
    """
    names = {module.name for module in pkgutil.iter_modules(corpora.__path__)}
    ordered = [name for name in FIRST if name in names] + sorted(names.difference(FIRST))
    found: dict[str, ModuleType] = {}
    for name in ordered:
        module = importlib.import_module(f"{corpora.__name__}.{name}")
        corpus = getattr(module, "CORPUS", None)
        if not isinstance(corpus, Corpus):
            continue
        if corpus.name in found:
            both = f"{found[corpus.name].__name__} and {module.__name__}"
            raise ElpError(f"two modules describe a corpus named {corpus.name}: {both}; rename one")
        found[corpus.name] = module
    return MappingProxyType(found)


def corpus(name: str) -> Corpus:
    """Return the description of a corpus.

    Raises:
        ElpError: there is no such corpus; lists the valid names.
    """
    if name not in modules():
        raise ElpError(f"unknown corpus {name!r}; the corpora are: {', '.join(modules())}")
    return modules()[name].CORPUS


def manifest_for(datarc: Mapping[str, Any], name: str) -> Path | None:
    """Return a user's manifest, as :meth:`upstream_elp.corpora.description.Corpus.manifest` does."""
    return corpus(name).manifest(datarc)


def corpus_root(datarc: Mapping[str, Any], name: str) -> Path:
    """Find a corpus by its name, as :meth:`upstream_elp.corpora.description.Corpus.root` does."""
    return corpus(name).root(datarc)
